"""External data: where a tensor's bytes lie on disk, checked before they are mapped.

A location is a path relative to the model's folder that stays inside it, symbolic links followed
(https://github.com/onnx/onnx/blob/main/docs/ExternalData.md).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from lwc.compiler.core.errors import BadExternalData
from lwc.compiler.core.mapped import Place, map_file, moved_to_file, place_of, put_place, stamp_of
from lwc.compiler.core.skeleton import initialized

LARGE_BYTES = 1 << 16  # made weights of less stay in memory; scales of large ones have more
_MANY_BYTES = 1 << 25  # as do those that are less than this together


@dataclass
class DataFolder:
    """The folder that a model's external data must lie in; maps each file once.

    path: None for a model that came without a file
    """

    path: Path | None
    maps: dict[Path, memoryview] = field(default_factory=dict)
    stamps: dict[Path, tuple[int, ...]] = field(default_factory=dict)

    def find(self, tensor: onnx.TensorProto) -> tuple[memoryview, Place]:
        """The bytes of an external tensor, not read yet, and where they lie. Raises BadExternalData."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = self._resolve(tensor.name, entries.get("location", ""))
        offset = _number(tensor.name, "offset", entries.get("offset", "0"))
        wanted = stored_bytes(tensor)
        length = _number(tensor.name, "length", entries.get("length", str(wanted)))
        if length != wanted:
            raise BadExternalData(
                f"Tensor '{tensor.name}' needs {wanted} bytes for its shape {list(tensor.dims)}; "
                f"its external data has {length}."
            )
        data = self._map(file)
        if offset + wanted > len(data):
            raise BadExternalData(
                f"Tensor '{tensor.name}' needs bytes {offset} to {offset + wanted} of '{file.name}', "
                f"which has {len(data)}."
            )
        return data[offset : offset + wanted], Place(file, offset, self.stamps[file])

    def _resolve(self, name: str, location: str) -> Path:
        if not location or "\0" in location:
            raise BadExternalData(f"Tensor '{name}' has external data without a location.")
        if PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive or location.startswith("\\"):
            raise BadExternalData(f"Tensor '{name}' has external data at an absolute path, '{location}'.")
        if self.path is None:
            raise BadExternalData(f"Tensor '{name}' has external data, and the model came without its file.")
        if ".." in PureWindowsPath(location).parts:
            raise BadExternalData(f"Tensor '{name}' has external data outside of the model's folder, '{location}'.")
        real = Path(os.path.realpath(self.path / location))
        if not real.is_relative_to(os.path.realpath(self.path)):
            raise BadExternalData(
                f"Tensor '{name}' has external data at '{location}', a symbolic link out of the model's folder."
            )
        if not real.is_file():
            raise BadExternalData(
                f"Tensor '{name}' has its data in '{location}', which is not beside the model.",
                "Copy it there.",
            )
        return real

    def _map(self, file: Path) -> memoryview:
        if file not in self.maps:
            try:
                self.stamps[file] = stamp_of(file.stat())
                self.maps[file] = map_file(file)
            except OSError as error:
                raise BadExternalData(f"'{file}' cannot be read ({error.strerror}).") from error
        return self.maps[file]


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """How many bytes raw or external data of this dtype and shape take."""
    size = 1
    for dimension in tensor.dims:
        size *= dimension
    return -(-size * ir.DataType(tensor.data_type).bitwidth // 8)


def view(data: memoryview, tensor: onnx.TensorProto, place: Place | None = None) -> ir.TensorProtocol:
    """A tensor over these bytes; nothing is copied. place: where they lie, if in a file of weights"""
    props = {entry.key: entry.value for entry in tensor.metadata_props}
    dtype, sizes = ir.DataType(tensor.data_type), tuple(tensor.dims)
    return _over(data, dtype, sizes, tensor.name, tensor.doc_string, props, place)


def move_to_file(model: ir.Model) -> None:
    """Let large weights that were made in memory lie in a temporary file instead, when they are many together."""
    made = [
        (value, tensor)
        for value, tensor in initialized(model)
        if tensor.nbytes >= LARGE_BYTES and tensor.dtype != ir.DataType.STRING and place_of(tensor) is None
    ]
    if sum(tensor.nbytes for _, tensor in made) < _MANY_BYTES:
        return
    found = moved_to_file(contents(tensor) for _, tensor in made)
    for (value, tensor), (data, place) in zip(made, found, strict=True):
        sizes = tuple(int(size) for size in tensor.shape.numpy())
        props = dict(tensor.metadata_props)
        value.const_value = _over(data, tensor.dtype, sizes, tensor.name or "", tensor.doc_string or "", props, place)


def _over(
    data: memoryview,
    dtype: ir.DataType,
    sizes: tuple[int, ...],
    name: str,
    doc: str,
    props: dict[str, str],
    place: Place | None,
) -> ir.TensorProtocol:
    tensor: ir.Tensor[Any] | ir.PackedTensor[Any]
    shape = ir.Shape(sizes)
    if dtype.bitwidth < 8:
        tensor = ir.PackedTensor(
            np.frombuffer(data, np.uint8), dtype, shape=shape, name=name, doc_string=doc or None,
            metadata_props=props or None,
        )  # fmt: skip
    else:
        array = np.frombuffer(data, dtype.numpy()) if len(data) else np.empty(0, dtype.numpy())
        tensor = ir.Tensor(
            array.reshape(sizes), dtype, shape=shape, name=name, doc_string=doc or None, metadata_props=props or None
        )
    if place is not None:
        put_place(tensor, place)
    return tensor


def contents(tensor: ir.TensorProtocol) -> bytes | memoryview:
    """The tensor's bytes as they are stored, not copied where they lie so in memory; of strings, some text of them."""
    if tensor.dtype == ir.DataType.STRING:
        return repr(tensor.numpy().tolist()).encode()
    if isinstance(tensor, ir.Tensor | ir.LazyTensor) and tensor.dtype.bitwidth >= 8 and tensor.size:
        return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data
    return tensor.tobytes()


def _number(name: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadExternalData(f"Tensor '{name}' has external data with the {key} '{text}'.")
    return int(text)
