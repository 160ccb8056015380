"""Arrays that lie in files: mapped into memory, read when touched, and let go of when memory is needed for more.

Pages of a mapped file count as memory of the process from the first touch until somebody gives them back; the file
keeps what they held, so that giving them back costs another read at most.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.scratch import temporary_file

ALIGNMENT = 4096  # a page, so that runtimes can map single tensors
IN_FILE_BYTES = 1 << 20  # arrays from this size on are worth a file of their own
_PLACE = "lwc.place"

_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes lie, little-endian and in order. stamp: of the file as it was mapped."""

    path: Path
    offset: int
    stamp: tuple[int, ...]

    def stands(self) -> bool:
        """Whether the file is still the one that was mapped."""
        try:
            return stamp_of(self.path.stat()) == self.stamp
        except OSError:
            return False


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written or replaced."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def map_file(path: Path) -> memoryview:
    """The file's bytes, read by the system when they are touched; outlives a later replacement of the file."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")
        found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _maps.add(found)
    return memoryview(found)


def release_pages() -> None:
    """Give back what was read of all mapped files, and memory that was freed, where the system takes it.

    Reading again reads the files again. glibc keeps freed blocks of up to 32 MB, weights of runtimes among them.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        for found in list(_maps):
            found.madvise(mmap.MADV_DONTNEED)
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's function of this name; None elsewhere."""
    try:
        found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # no C library to look into by that name
        return None
    return found


def place_of(tensor: ir.TensorProtocol) -> Place | None:
    """Where the tensor's bytes lie in a file; None when they do not, or the file has changed since."""
    place = tensor.meta.get(_PLACE) if isinstance(tensor, ir.Tensor | ir.PackedTensor) else None
    return place if isinstance(place, Place) and place.stands() else None


def put_place(tensor: ir.Tensor[Any] | ir.PackedTensor[Any], place: Place) -> None:
    """Note where the tensor's bytes lie."""
    tensor.meta[_PLACE] = place


def moved_to_file(parts: Iterable[bytes | memoryview]) -> list[tuple[memoryview, Place]]:
    """Write the bytes to one temporary file, which goes when nothing maps it any more; each part from there."""
    handle, path = temporary_file("weights")
    spans: list[tuple[int, int]] = []
    with os.fdopen(handle, "wb") as file:
        for part in parts:
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            start = file.tell()
            file.write(part)
            spans.append((start, file.tell()))
    data = map_file(path)
    if isinstance(data.obj, mmap.mmap):
        weakref.finalize(data.obj, _remove, path)
    else:
        _remove(path)
    stamp = stamp_of(path.stat()) if path.exists() else ()
    return [(data[start:stop], Place(path, start, stamp)) for start, stop in spans]


def kept_in_file(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers, in a temporary file when there are many of them; not to be written to."""
    (found,) = kept_together(array)
    return found


def kept_together(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """The same numbers, all of them in one temporary file when they are many together; not to be written to."""
    if sum(array.nbytes for array in arrays) < IN_FILE_BYTES:
        return list(arrays)
    parts = moved_to_file(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays)
    return [
        np.asarray(data).view(array.dtype).reshape(array.shape) for array, (data, _) in zip(arrays, parts, strict=True)
    ]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # some systems keep a file that is still mapped
        return
