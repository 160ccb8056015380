"""What every runtime does with a model before it is its own: tap it, hand it over, check arrays, name culprits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.backend import Feeds, Port
from lwc.compiler.core.errors import BadCalibration, BadInput, LwcError, UnsupportedOperator
from lwc.compiler.core.mapped import place_of, release_pages
from lwc.compiler.core.model import Model
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.core.skeleton import initialized, standing_in
from lwc.compiler.core.storage import append_tensor, reference

MODEL_FILE = "model.onnx"
IN_MEMORY_BYTES = 1_500_000_000  # protobuf ends at 2 GB, and a copy is made on the way
LARGE_BYTES = 1 << 26  # weights of more are not copied on the way: they stay where they lie, or go to a file
REFERRED_BYTES = 1 << 16  # smaller tensors come along: shapes and scalars are needed to load a model
ALIGNED = 16  # runtimes compute on mapped weights as they lie
STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


def tapped(model: Model, outputs: Sequence[str]) -> Model:
    """A fork whose graph also returns these values; the model itself when there is nothing to add.

    Raises BadInput when the main graph has no such value.
    """
    present = {value.name for value in model.graph.outputs}
    wanted = [name for name in dict.fromkeys(outputs) if name not in present]
    if not wanted:
        return model
    fork = model.fork()
    values = {value.name: value for value in (*fork.graph.inputs, *fork.graph.initializers.values())}
    values |= {value.name: value for node in fork.graph for value in node.outputs}
    for name in wanted:
        if name not in values:
            raise BadInput(f"{model.name}: the main graph has no value '{name}' to return.")
        fork.graph.outputs.append(values[name])
    return fork


@contextmanager
def handed_over(model: Model) -> Iterator[bytes | Path]:
    """The model as bytes, or, too large for that, as a file that lasts as long as the block."""
    if model.weight_bytes() < IN_MEMORY_BYTES:
        yield _in_memory(model).to_proto().SerializeToString()
        return
    with temporary_folder("session") as folder:
        path = Path(folder) / MODEL_FILE
        model.save(path, external_data=True)
        yield path


@contextmanager
def referred(model: Model) -> Iterator[tuple[bytes, Path]]:
    """The model as bytes in which large weights are references to files, relative to the folder that comes with it.

    Weights that lie in files already stay there, all others are written to one that lasts as long as the
    block. Nothing is copied in memory, and pages of weights that were read are given back.
    """
    with temporary_folder("session") as temporary:
        own = Path(os.path.realpath(temporary)) / f"{MODEL_FILE}.data"
        tensors = [(value, tensor) for value, tensor in initialized(model.ir) if _is_large(tensor)]
        found = ((value, place_of(tensor)) for value, tensor in tensors)
        places = {value: place for value, place in found if place is not None and place.offset % ALIGNED == 0}
        folder = Path(os.path.commonpath([own.parent, *(place.path.parent for place in places.values())]))
        stubs: dict[ir.Value, ir.TensorProtocol] = {}
        with own.open("wb") as data:
            for value, tensor in tensors:
                name, place = value.name or "", places.get(value)
                if place is None:
                    stubs[value] = append_tensor(tensor, name, data, _below(folder, own))
                else:
                    stubs[value] = reference(tensor, name, _below(folder, place.path), place.offset)
        with standing_in(stubs):
            content: bytes = model.to_proto().SerializeToString()
        release_pages()
        yield content, folder


def _is_large(tensor: ir.TensorProtocol) -> bool:
    return tensor.nbytes >= REFERRED_BYTES and tensor.dtype != ir.DataType.STRING


def _below(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix()


def refuse_foreign(model: Model) -> None:
    """Raise UnsupportedOperator when the model uses operators of other domains than the standard ones."""
    foreign = sorted({f"{n.domain}:{n.op_type}" for n in model.nodes() if n.domain not in STANDARD_DOMAINS})
    if foreign:
        raise UnsupportedOperator(
            f"{model.name}: not portable, it uses {', '.join(foreign)}.", "Build without --portable."
        )


def fitting(port: Port, feeds: Feeds, model: str) -> Any:
    """The array for one input, checked against its type and shape (sequences pass unchecked).

    Raises BadCalibration.
    """
    if port.name not in feeds:
        given = ", ".join(sorted(feeds)) or "nothing"
        raise BadCalibration(f"{model}: no array for input '{port.name}' (given: {given}).")
    array = feeds[port.name]
    if port.dtype == np.object_:
        return array
    if not isinstance(array, np.ndarray):
        raise BadCalibration(f"{model}: input '{port.name}' is a {type(array).__name__}, not an array.")
    if array.dtype != port.dtype:
        raise BadCalibration(f"{model}: input '{port.name}' is {array.dtype}; the model takes {port.dtype}.")
    fixed = zip(array.shape, port.shape, strict=False)
    if array.ndim != len(port.shape) or any(isinstance(want, int) and have != want for have, want in fixed):
        want = list(port.shape)
        raise BadCalibration(f"{model}: input '{port.name}' has shape {list(array.shape)}; the model takes {want}.")
    return array


def blame(model: Model, error: LwcError) -> Mapping[str, str]:
    """The nodes that an error of loading names, by node name or by operator; else the model itself."""
    text = str(error)
    named = [node for node in model.nodes() if node.name and f"'{node.name}'" in text]
    if not named and isinstance(error, UnsupportedOperator):
        named = [n for n in model.nodes() if f"'{n.op_type}'" in text or f"'{n.domain}:{n.op_type}'" in text]
    return {node.name or node.op_type: error.message for node in named} or {model.name: error.message}


def _in_memory(model: Model) -> Model:
    """A fork without references to files, which a session from bytes cannot follow."""
    tensors = [value.const_value for graph in model.ir.graphs() for value in graph.initializers.values()]
    if not any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
        return model
    fork = model.fork()
    ir.external_data.load_to_model(fork.ir)
    return fork
