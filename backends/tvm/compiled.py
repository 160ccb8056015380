"""Models compiled for their shapes; the last few are kept, as search, proof and build ask for the same ones."""

from __future__ import annotations

from collections import OrderedDict

from lwc.backends.tvm.errors import plain
from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.program import Program, compile_program
from lwc.compiler.core.errors import LwcError, UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import Target

KEPT = 8

_kept: OrderedDict[tuple[str, Machine], Program | LwcError] = OrderedDict()


def compile_model(model: Model, target: Target) -> Program:
    """Machine code of the whole model. Raises UnsupportedOperator."""
    machine = Machine.of(target)
    key = (model.digest(), machine)
    if key not in _kept:
        while len(_kept) >= KEPT:
            _kept.popitem(last=False)
        _kept[key] = _compiled(model, machine)
    _kept.move_to_end(key)
    found = _kept[key]
    if isinstance(found, LwcError):
        raise found
    return found


def refusal(model: Model, target: Target) -> str:
    """Why TVM cannot compile the model as a whole; empty when it can."""
    try:
        compile_model(model, target)
    except LwcError as error:
        return error.message
    return ""


def _compiled(model: Model, machine: Machine) -> Program | LwcError:
    try:
        module = import_model(model)
    except LwcError as error:
        return error
    try:
        return compile_program(module, machine)
    except Exception as error:
        return UnsupportedOperator(f"{model.name}: TVM cannot compile it: {plain(error)}")
