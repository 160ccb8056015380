"""Models compiled for their shapes; the last few are kept, as search, proof and build ask for the same ones."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from lwc.backends.tvm.errors import plain
from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.program import Program, compile_program
from lwc.compiler.core.errors import LwcError, UnsupportedOperator
from lwc.compiler.core.float_format import float_format
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import BFloat16
from lwc.compiler.core.silence import STDERR, silent
from lwc.compiler.core.target import Target

KEPT = 8

_kept: OrderedDict[tuple[str, Machine], Program | str] = OrderedDict()


def compile_model(model: Model, target: Target) -> Program:
    """Machine code of the whole model. Raises UnsupportedOperator."""
    found = _found(model, target)
    if isinstance(found, str):
        raise UnsupportedOperator(f"{model.name}: {found}")
    return found


def refusal(model: Model, target: Target) -> str:
    """Why TVM cannot compile the model as a whole; empty when it can."""
    found = _found(model, target)
    return found if isinstance(found, str) else ""


def machine_for(model: Model, target: Target) -> Machine:
    """The target's machine, computing in the format that the model asks for."""
    return replace(Machine.of(target), bfloat16=float_format(model.ir) == BFloat16.name)


def _found(model: Model, target: Target) -> Program | str:
    machine = machine_for(model, target)
    key = (model.digest(), machine)
    if key not in _kept:
        while len(_kept) >= KEPT:
            _kept.popitem(last=False)
        _kept[key] = _compiled(model, machine)
    _kept.move_to_end(key)
    return _kept[key]


def _compiled(model: Model, machine: Machine) -> Program | str:
    """The program, or why there is none. No exception is kept: it would hold on to all that is half made."""
    with silent(STDERR):
        try:
            return compile_program(import_model(model), machine)
        except LwcError as error:
            return error.message.removeprefix(f"{model.name}: ")
        except Exception as error:
            return f"TVM cannot compile it: {plain(error)}"
