"""Activations by run and name, in memory up to a bound and on disk beyond it."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from lwc.compiler.core.backend import Array
from lwc.compiler.core.scratch import temporary_folder


class KeptValues:
    """Arrays that are put once and read often. What does not fit the bound lies in a temporary folder."""

    def __init__(self, max_memory_bytes: int) -> None:
        self._limit = max_memory_bytes
        self._used = 0
        self._kept: dict[str, dict[int, Array | Path]] = {}
        self._shapes: dict[str, dict[int, tuple[int, ...]]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def put(self, run: int, values: Mapping[str, Array]) -> None:
        """Keep the arrays of one run."""
        for name, array in values.items():
            self._shapes.setdefault(name, {})[run] = array.shape
            fits = self._used + array.nbytes <= self._limit
            self._used += array.nbytes if fits else 0
            self._kept.setdefault(name, {})[run] = array if fits else self._write(array)

    def get(self, run: int, names: Iterable[str]) -> dict[str, Array]:
        """Arrays of one run by name."""
        return {name: _read(self._kept[name][run]) for name in names}

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """Shapes of a value in all runs."""
        return list(self._shapes[name].values())

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def only(self, names: Iterable[str]) -> None:
        """Forget all values but these."""
        wanted = set(names)
        for name in [name for name in self._kept if name not in wanted]:
            del self._shapes[name]
            for found in self._kept.pop(name).values():
                if isinstance(found, Path):
                    found.unlink(missing_ok=True)
                else:
                    self._used -= found.nbytes

    def close(self) -> None:
        """Forget everything and remove the folder."""
        self.only(())
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _write(self, array: Array) -> Path:
        if self._folder is None:
            self._folder = temporary_folder("activations")
        self._files += 1
        path = Path(self._folder.name) / f"{self._files}.pickle"
        path.write_bytes(pickle.dumps(array, protocol=5))
        return path


def _read(kept: Array | Path) -> Array:
    if not isinstance(kept, Path):
        return kept
    array: Array = pickle.loads(kept.read_bytes())
    return array
