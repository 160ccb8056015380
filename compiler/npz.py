"""Tables of calibration samples: arrays whose first axis counts samples, read row by row from .npz files."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import BadCalibration
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.fitting import missing

Array = NDArray[Any]

_PIECE = 1 << 18
# Unpacked samples leave this much of the disk alone.
_SPARE_DISK = 1 << 30


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of a .npz file that cannot be read become BadCalibration."""
    try:
        yield
    except BadCalibration:
        raise
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        pickled = "allow_pickle" in str(error)
        reason = "it holds pickled Python objects, which lwc does not load" if pickled else str(error).rstrip(".")
        raise BadCalibration(
            f"{path} cannot be read as .npz: {reason}.", "Write it with numpy.savez from arrays of numbers."
        ) from error


def require_disk(folder: Path, size: int) -> None:
    """Raise BadCalibration when `size` more bytes would fill the disk of a temporary folder."""
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE_DISK:
        raise BadCalibration(
            f"Calibration samples do not fit the temporary folder {folder}: {free / 1e9:.1f} GB are free.",
            "Use fewer samples (--samples N), or set TMPDIR to a larger disk.",
        )


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, from `offset`; rows are read when asked for, so that no page of it stays in memory."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        if self.fortran and self.ndim > 1:
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order="F")
            return np.array(mapped[rows], order="C")
        start, stop, _ = rows.indices(len(self))
        each = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        return self._read(start * each, (stop - start) * each).reshape(stop - start, *self.shape[1:])

    def whole(self) -> Array:
        """All of it."""
        return self._read(0, int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize).reshape(self.shape)

    def _read(self, start: int, size: int) -> Array:
        data = np.fromfile(self.path, np.uint8, size, offset=self.offset + start)
        if len(data) != size:
            raise BadCalibration(f"{self.path} was cut short while it was read.", "Do not change it during a compile.")
        return data.view(self.dtype)


@dataclass(frozen=True)
class Column:
    """One array of a table. step: rows per sample (0: the same for all);  drop: samples lose the first axis."""

    array: StoredArray | Array
    step: int
    drop: bool = False

    def at(self, index: int) -> Array:
        if self.step == 0:
            return self.array.whole() if isinstance(self.array, StoredArray) else self.array
        rows = self.array[index * self.step : (index + 1) * self.step]
        return rows[0] if self.drop else rows


@dataclass(frozen=True)
class Table:
    """Arrays whose first axis counts samples. folder: kept until the table goes."""

    columns: Mapping[str, Column]
    count: int
    name: str
    folder: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Mapping[str, Array]:
        return {name: column.at(index) for name, column in self.columns.items()}

    def origin(self, index: int) -> str:
        return f"{self.name}, sample {index}"


def table(
    arrays: Mapping[str, StoredArray | Array],
    inputs: Sequence[Port],
    name: str,
    folder: tempfile.TemporaryDirectory[str] | None = None,
) -> Table:
    """Cut arrays into samples.

    An input with as many axes as the model's is cut along its first: one row a sample, or as many as a fixed batch
    takes. With one axis more, the first counts samples and goes. Labels go row by row too. Raises BadCalibration.
    """
    columns: dict[str, Column] = {}
    for port in inputs:
        if port.name not in arrays:
            raise missing(port.name, list(arrays), inputs, name)
        columns[port.name] = _input_column(arrays[port.name], port, name)
    counts = {key: len(column.array) // column.step for key, column in columns.items() if column.step}
    count = min(counts.values(), default=1)
    uneven = [key for key, n in counts.items() if n != count]
    if uneven:
        first = min(counts, key=counts.__getitem__)
        raise BadCalibration(
            f"{name}: '{uneven[0]}' holds {counts[uneven[0]]} samples and '{first}' holds {count}.",
            "Give one row of every array per sample.",
        )
    batch = max((column.step for column in columns.values()), default=1) or 1
    for key, array in arrays.items():
        if key not in columns:
            columns[key] = _label_column(array, count, batch, f"{name}: '{key}'")
    return Table(columns, count, name, folder)


def _input_column(array: StoredArray | Array, port: Port, name: str) -> Column:
    if array.ndim == 0:
        return Column(array, 0)
    if array.ndim == len(port.shape) + 1:
        return Column(array, 1, drop=True)
    batch = port.shape[0] if port.shape else 1
    step = batch if isinstance(batch, int) and batch > 1 else 1
    if len(array) % step:
        raise BadCalibration(
            f"{name}: '{port.name}' has {len(array)} rows; the model takes {step} at a time.",
            f"Give a multiple of {step} rows.",
        )
    return Column(array, step)


def _label_column(array: StoredArray | Array, count: int, batch: int, what: str) -> Column:
    if array.ndim == 0:
        return Column(array, 0)
    if len(array) == count:
        return Column(array, 1)
    if len(array) == count * batch:
        return Column(array, batch)
    raise BadCalibration(
        f"{what} has {len(array)} rows for {count} samples.", "Give one label per sample, or leave the array out."
    )


def open_npz(
    path: Path, limit: int | None
) -> tuple[dict[str, StoredArray | Array], tempfile.TemporaryDirectory[str] | None]:
    """Arrays of a .npz: stored members in place, compressed ones unpacked to a temporary folder piece by piece."""
    arrays: dict[str, StoredArray | Array] = {}
    folder: tempfile.TemporaryDirectory[str] | None = None
    with reading(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            stored = member.compress_type == zipfile.ZIP_STORED
            with archive.open(member) as stream:
                dtype, shape, fortran = _read_header(stream, path, member.filename)
                start = stream.tell()
                if stored:
                    place, offset = path, _data_offset(path, member) + start
                    while limit is None and stream.read(_PIECE):
                        pass  # to the end, where zipfile compares the checksum
                else:
                    folder = folder or temporary_folder("samples")
                    place, offset = Path(folder.name) / f"{len(arrays)}.raw", 0
                    require_disk(Path(folder.name), member.file_size)
                    with place.open("wb") as out:
                        shutil.copyfileobj(stream, out, _PIECE)
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            if member.file_size - start != size:
                raise BadCalibration(f"{path} is damaged: '{member.filename}' has not the size its header says.")
            arrays[member.filename[: -len(".npy")]] = StoredArray(place, offset, dtype, shape, fortran)
    return arrays, folder


def _read_header(stream: IO[bytes], path: Path, name: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise BadCalibration(
            f"{path}: '{name}' holds pickled Python objects, which lwc does not load.",
            "Save arrays of numbers, booleans or strings.",
        )
    return dtype, shape, fortran


def _data_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Where a member's bytes start: after its local header of 30 bytes, its name and its extra field."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return int(member.header_offset + 30 + name + extra)
