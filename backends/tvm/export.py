"""Deployables: code as a shared library, weights in a file that is mapped, and what both need said of them as JSON.

model.so        kernels and the program of TVM's virtual machine
model.weights   tensors that the program is called with behind its inputs; absent when there are none
model.json      {inputs, outputs: [[name, type, shape]], weights: [[type, shape, offset]], weights_file,
                activation_bytes, processor: {triple, flags}}

Python and the runner in C++ (runner/) load the same files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tvm

from lwc.backends.signature import Signature
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.processor import Processor
from lwc.backends.tvm.program import Program
from lwc.backends.tvm.toolchain import find_toolchain
from lwc.backends.tvm.weights import Place, WeightsFile, map_weights
from lwc.compiler.core.errors import BadInput

NAME = "model"


def export(
    program: Program, signature: Signature, folder: Path, machine: Machine, name: str = NAME,
    shared: WeightsFile | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Write a program and its signature into `folder`; returns the names of the files.

    name: of all files, without suffix, where one folder holds several programs
    shared: file for its weights in that folder, which other programs have theirs in, too
    Raises MissingDependency when there is no linker for the machine.
    """
    library, own, description = _paths(folder, name)
    weights = shared or WeightsFile(own)
    find_toolchain(machine.triple).link(program.executable, library)
    places = weights.write(program.weights)
    data = {
        **json.loads(signature.to_json()),
        "weights": [[place.dtype, list(place.shape), place.offset] for place in places],
        "weights_file": weights.path.name,
        "activation_bytes": program.activation_bytes,
        "processor": asdict(Processor.of(machine)),
    }
    description.write_text(json.dumps(data) + "\n", encoding="utf-8")
    return tuple(path.name for path in (description, library, weights.path) if path.exists())


def load(folder: Path, name: str = NAME) -> tuple[Program, Signature]:
    """What `export` wrote. Raises BadInput when a file is missing, damaged, or made for another processor."""
    library, weights, description = _paths(folder, name)
    for path in (description, library):
        if not path.is_file():
            raise BadInput(f"'{folder}' lacks its file '{path.name}'.", "Compile it again.")
    try:
        text = description.read_text(encoding="utf-8")
        data = json.loads(text)
        Processor(data["processor"]["triple"], tuple(data["processor"]["flags"])).check(str(folder))
        places = [Place(dtype, tuple(shape), offset) for dtype, shape, offset in data["weights"]]
        tensors = map_weights(places, folder / data.get("weights_file", weights.name))
        program = Program(_module(library), tuple(tensors), data["activation_bytes"])
        return program, Signature.from_json(text)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadInput(f"'{folder}' cannot be loaded ({str(error).splitlines()[0]}).", "Compile it again.") from error


def activation_bytes(folder: Path, names: Sequence[str]) -> int | None:
    """Of the programs of these names that `export` wrote, together; None where one does not know."""
    known = [json.loads(_paths(folder, name)[2].read_text(encoding="utf-8"))["activation_bytes"] for name in names]
    return None if None in known else sum(known)


def _module(library: Path) -> Any:
    return tvm.runtime.load_module(str(library.absolute()))


def _paths(folder: Path, name: str) -> Sequence[Path]:
    return [folder / f"{name}{suffix}" for suffix in (".so", ".weights", ".json")]
