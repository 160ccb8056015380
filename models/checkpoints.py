"""Read the tensors of a PyTorch checkpoint without PyTorch, and without running anything that it says.

A checkpoint is a zip: NAME/data.pkl is a pickle whose tensors point at NAME/data/KEY, raw little-endian storage.
Only the few names a plain state dictionary needs are allowed in the pickle; any other is refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import BadInput

_STORAGE_TYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class _StorageType:
    dtype: np.dtype[Any]


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """Name -> array of a checkpoint that holds a flat state dictionary.

    Raises BadInput for anything else: another layout, a truncated file, a pickle that names other functions.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            state = _CheckpointUnpickler(archive, _root_of(archive, path)).load()
    except (zipfile.BadZipFile, pickle.UnpicklingError, KeyError, EOFError, TypeError, ValueError) as error:
        raise BadInput(f"{path.name} is not a checkpoint that can be read: {error}.") from error
    if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
        raise BadInput(f"{path.name} holds something else than a flat dictionary of tensors.")
    return {str(name): value for name, value in state.items()}


def _root_of(archive: zipfile.ZipFile, path: Path) -> str:
    roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise BadInput(f"{path.name} is a zip but not a checkpoint: it holds {len(roots)} data.pkl.")
    order = f"{roots[0]}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise BadInput(f"{path.name} is stored in big-endian byte order; only little-endian is read.")
    return roots[0]


class _CheckpointUnpickler(pickle.Unpickler):
    """Knows OrderedDict, tensors and storage types; resolves storages from the archive."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive = archive
        self._root = root

    def find_class(self, module: str, name: str) -> Callable[..., Any] | _StorageType:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild_tensor
        if module == "torch" and name in _STORAGE_TYPES:
            return _StorageType(_STORAGE_TYPES[name])
        raise pickle.UnpicklingError(f"it names {module}.{name}, which a state dictionary does not need")

    def persistent_load(self, reference: Any) -> NDArray[Any]:
        kind, storage_type, key, _location, _count = reference
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise pickle.UnpicklingError(f"it refers to {kind!r} instead of a storage")
        return np.frombuffer(self._archive.read(f"{self._root}data/{key}"), dtype=storage_type.dtype)


def rebuild_tensor(
    storage: NDArray[Any],
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *_gradient_state: object,
) -> NDArray[Any]:
    """A copy of the tensor that starts at offset in a flat storage; size and stride in elements.

    Raises ValueError when the tensor would reach outside its storage.
    """
    if prod(size) == 0:
        return np.zeros(size, dtype=storage.dtype)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if offset < 0 or min((0, *size, *stride)) < 0 or last >= storage.size:
        raise ValueError(f"a tensor of size {tuple(size)} reaches outside its storage of {storage.size}")
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape=size, strides=steps).copy()
