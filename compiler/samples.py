"""Where calibration samples come from, each read when it is wanted: .npz, a folder, a function, an iterable.

Nothing here holds more than one sample. Compressed .npz members and what iterators yield go to a temporary folder.
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import BadCalibration, LwcError, UsageError
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.fitting import fit
from lwc.compiler.npz import StoredArray, open_npz, reading, require_disk, table

Array = NDArray[Any]
Sample = Mapping[str, Any]

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_][\w.]*")


class Samples(Protocol):
    """Samples by index, read again on every access."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
    def origin(self, index: int) -> str:
        """What errors call this sample."""
        ...


def open_samples(source: object, inputs: Sequence[Port], limit: int | None) -> Samples:
    """Samples of a path, 'module:function', mapping of arrays, sequence or iterable of dicts, or a callable.

    limit: read no more from sources that can only be read from the start. Raises BadCalibration, UsageError.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.exists() and isinstance(source, str) and _FUNCTION.fullmatch(source):
            return spooled(_call(load_function(source), source), inputs, limit, f"'{source}'")
        return _open_path(path, inputs, limit)
    if isinstance(source, Mapping):
        arrays = {str(name): np.asarray(array) for name, array in source.items()}
        return table(arrays, inputs, "The calibration set")
    if isinstance(source, list | tuple):
        return MemorySamples(source)
    if callable(source):
        name = f"'{getattr(source, '__name__', type(source).__name__)}'"
        return spooled(_call(source, name), inputs, limit, name)
    if isinstance(source, Iterable):
        return spooled(source, inputs, limit, "The calibration set")
    raise UsageError(
        f"Calibration samples cannot be read from a {type(source).__name__}.",
        "Give a path, a list or iterator of dicts, or a function that yields dicts.",
    )


def load_function(reference: str) -> Callable[[], object]:
    """The function that 'module:function' names. Raises UsageError."""
    module, _, attribute = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # the module is the user's: importing it may raise anything
        raise UsageError(
            f"Calibration function '{reference}' cannot be loaded: {type(error).__name__}: {error}.",
            "Give module:function, both importable.",
        ) from error
    if not callable(found):
        raise UsageError(f"'{reference}' is a {type(found).__name__}, not a function that yields samples.")
    function: Callable[[], object] = found
    return function


def _call(function: Callable[[], object], name: str) -> Iterable[object]:
    try:
        samples = function()
    except Exception as error:  # the user's code may raise anything
        raise BadCalibration(f"Calibration function {name} failed: {type(error).__name__}: {error}.") from error
    if isinstance(samples, Mapping) or not isinstance(samples, Iterable):
        raise BadCalibration(
            f"Calibration function {name} returned a {type(samples).__name__}.",
            "It has to yield one dict of input name -> array per sample.",
        )
    return samples


def _open_path(path: Path, inputs: Sequence[Port], limit: int | None) -> Samples:
    if path.is_dir():
        files = tuple(sorted(path.glob("*.npz")))
        if not files:
            raise BadCalibration(f"The folder {path} holds no .npz files.", "Save one sample per file.")
        return FolderSamples(files)
    if not path.exists():
        raise BadCalibration(
            f"There is no file or folder {path}.", "Give a .npz, a folder of .npz, or module:function."
        )
    arrays, folder = open_npz(path, limit)
    return table(arrays, inputs, str(path), folder)


@dataclass(frozen=True)
class MemorySamples:
    """Samples the caller holds."""

    samples: Sequence[Any]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample: Sample = self.samples[index]
        return sample

    def origin(self, index: int) -> str:
        return f"Calibration sample {index}"


@dataclass(frozen=True)
class FolderSamples:
    """One sample per .npz file."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        with reading(self.files[index]), np.load(self.files[index], allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def origin(self, index: int) -> str:
        return str(self.files[index])


@dataclass(frozen=True)
class SpooledSamples:
    """Samples that came from an iterator, one after another in a file of a temporary folder."""

    folder: tempfile.TemporaryDirectory[str]
    index: tuple[Mapping[str, StoredArray], ...]
    name: str

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Sample:
        return {name: array.whole() for name, array in self.index[index].items()}

    def origin(self, index: int) -> str:
        return f"{self.name}, sample {index}"


def spooled(samples: Iterable[object], inputs: Sequence[Port], limit: int | None, name: str) -> SpooledSamples:
    """Run through an iterable once and keep its samples on disk. Raises BadCalibration."""
    folder = temporary_folder("samples")
    path = Path(folder.name) / "samples.raw"
    index: list[Mapping[str, StoredArray]] = []
    with path.open("wb") as file:
        for number, sample in enumerate(_guarded(itertools.islice(samples, limit), name)):
            stored: dict[str, StoredArray] = {}
            for key, array in fit(sample, inputs, f"{name}, sample {number}").items():
                raw = np.ascontiguousarray(array.astype(np.str_) if array.dtype == np.object_ else array)
                require_disk(path.parent, raw.nbytes)
                stored[key] = StoredArray(path, file.tell(), raw.dtype, array.shape)
                file.write(raw.reshape(-1).view(np.uint8).data)
            index.append(stored)
    return SpooledSamples(folder, tuple(index), name)


def _guarded(samples: Iterable[object], name: str) -> Iterator[object]:
    iterator = iter(samples)
    while True:
        try:
            sample = next(iterator)
        except StopIteration:
            return
        except LwcError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise BadCalibration(f"{name} failed after some samples: {type(error).__name__}: {error}.") from error
        yield sample
