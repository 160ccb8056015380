"""What a compile keeps for the next one: statistics, costs and losses, one small file per key.

Each entry is written aside and renamed, so a killed compile leaves whole entries and resumes from them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cache:
    """Entries by kind and key, in memory and in a folder; folder None keeps them no longer than this object."""

    folder: Path | None
    memory: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False, repr=False)

    def path(self, kind: str, key: object, suffix: str = ".json") -> Path | None:
        """Where the entry lies (its folder is made); None without a folder."""
        if self.folder is None:
            return None
        name = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder / (name + suffix)

    def get(self, kind: str, key: object) -> Any:
        """The JSON value kept under the key, or None (also when the entry is damaged)."""
        if (kind, repr(key)) in self.memory:
            return self.memory[kind, repr(key)]
        path = self.path(kind, key)
        if path is None or not path.exists():
            return None
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            return None

    def put(self, kind: str, key: object, value: Any) -> None:
        """Keep a JSON value under the key."""
        self.memory[kind, repr(key)] = value
        path = self.path(kind, key)
        if path is not None:
            write_aside(path, json.dumps(value).encode())


def write_aside(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
