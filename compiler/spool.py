"""A list of sample outputs that moves to disk when it grows."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.metrics import Outputs

IN_MEMORY_BYTES = 128_000_000


class Spool:
    """Outputs by sample index; the first 128 MB stay in memory, the rest in a temporary folder."""

    def __init__(self) -> None:
        self._kept: list[Outputs | Path] = []
        self._bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def append(self, outputs: Outputs) -> None:
        """Add the outputs of the next sample."""
        size = sum(getattr(array, "nbytes", 0) for array in outputs.values())
        if self._bytes + size <= IN_MEMORY_BYTES:
            self._bytes += size
            self._kept.append(outputs)
            return
        if self._folder is None:
            self._folder = temporary_folder("outputs")
        path = Path(self._folder.name) / f"{len(self._kept)}.pickle"
        path.write_bytes(pickle.dumps(dict(outputs), protocol=5))
        self._kept.append(path)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Outputs:
        kept = self._kept[index]
        return pickle.loads(kept.read_bytes()) if isinstance(kept, Path) else kept

    def __iter__(self) -> Iterator[Outputs]:
        return (self[i] for i in range(len(self)))
