"""Parts of a model that run one after the other, on TVM or ONNX Runtime, and hand values over by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lwc.backends.signature import Signature
from lwc.backends.tvm.compiled import compile_model
from lwc.backends.tvm.cut import Part
from lwc.backends.tvm.export import activation_bytes, export, load
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.program import Program
from lwc.backends.tvm.session import TvmSession, copied
from lwc.backends.tvm.turns import reference
from lwc.backends.tvm.weights import WeightsFile
from lwc.compiler.core.backend import Array, Feeds, Port, Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import Target

PROGRAM = "model"
ONNX = ".onnx"


class Chain:
    """A session of several. Values lie where the part that made them left them."""

    def __init__(self, steps: Sequence[Session], inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.steps = steps
        last = {port.name: k for k, step in enumerate(steps) for port in step.inputs}
        kept = {port.name for port in outputs}
        self._dead = [[name for name, k in last.items() if k == at and name not in kept] for at in range(len(steps))]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name. Raises BadCalibration when an input is missing or has another type or shape."""
        values = dict(feeds)
        for step, dead in zip(self.steps, self._dead, strict=True):
            values |= step.run_shared(values) if isinstance(step, TvmSession) else step.run(values)
            for name in dead:
                values.pop(name, None)
        found = {port.name: values[port.name] for port in self.outputs}
        return {name: value if _is_own(value) else copied(value) for name, value in found.items()}


def _is_own(value: Any) -> bool:
    """Whether whoever takes an array, or a list of them, may write into it."""
    if isinstance(value, list):
        return all(_is_own(item) for item in value)
    return not isinstance(value, np.ndarray) or value.flags.writeable


def open_parts(parts: Sequence[Part], model: Model, target: Target) -> Session:
    """Parts compiled and opened in memory. Raises UnsupportedOperator."""
    in_turns = any(part.taken for part in parts)
    return _joined([open_part(part, target, in_turns) for part in parts], Signature.of(model))


def open_part(part: Part, target: Target, in_turns: bool = True) -> Session:
    """One part, compiled where TVM takes it.  in_turns: with parts on TVM.  Raises UnsupportedOperator."""
    if not part.taken:
        return reference(in_turns).session(part.model, target)
    return _started(compile_model(part.model, target), Signature.of(part.model), part.model.name)


def store_parts(
    parts: Sequence[Part], target: Target, folder: Path, weights: WeightsFile | None = None, program: str = PROGRAM
) -> list[str]:
    """Write each part into the folder; returns the names it is found by: of a program, or of an ONNX file.

    The first is called `program`, as if it were the only one. weights: of all of them, and of others in the folder
    Raises LwcError.
    """
    programs = [k for k, part in enumerate(parts) if part.taken]
    names = []
    for k, part in enumerate(parts):
        name = program if programs[:1] == [k] else f"{program}.{k}"
        if part.taken:
            code, machine = compile_model(part.model, target), Machine.of(target)
            export(code, Signature.of(part.model), folder, machine, name, weights)
        else:
            name += ONNX
            part.model.save(folder / name)
        names.append(name)
    return names


def planned_bytes(names: Sequence[str], folder: Path) -> int | None:
    """Activations of the parts that TVM runs, of those `store_parts` named."""
    return activation_bytes(folder, [name for name in names if not name.endswith(ONNX)])


def load_parts(names: Sequence[str], signature: Signature, folder: Path, target: Target) -> Session:
    """Open what `store_parts` wrote. Raises BadInput."""
    return _joined([_load(name, folder, target, on_tvm(names)) for name in names], signature)


def on_tvm(names: Sequence[str]) -> bool:
    """Whether TVM runs any of the parts that `store_parts` named."""
    return not all(name.endswith(ONNX) for name in names)


def _load(name: str, folder: Path, target: Target, in_turns: bool) -> Session:
    if name.endswith(ONNX):
        return reference(in_turns).session(Model.open(folder / name), target)
    return _started(*load(folder, name), folder.name)


def _started(program: Program, signature: Signature, name: str) -> TvmSession:
    return TvmSession(program.executable, signature.inputs, signature.outputs, name, program.weights)


def _joined(steps: Sequence[Session], signature: Signature) -> Session:
    alone = len(steps) == 1 and [port.name for port in steps[0].outputs] == [port.name for port in signature.outputs]
    return steps[0] if alone else Chain(steps, signature.inputs, signature.outputs)
