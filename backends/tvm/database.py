"""What tuning found, one file for all models of a user: it only grows, and damaged lines are left out.

Each line holds a record and its checksum and is appended by one call of the system, so that processes may write at the
same time, and a line that was cut off costs itself alone. Of one kernel on one machine the fastest record counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import tvm

from lwc._version import __version__
from lwc.backends.tvm.tuned import UNTUNED, Tuned
from lwc.compiler.core.target import Target

FILE = "kernels.jsonl"


@dataclass(frozen=True)
class Record:
    """The fastest candidate of one kernel.

    place: the machine and TVM's version, from `place`;  signature: what the kernel computes;  choice: as in Tuned
    seconds: of one run;  tried: how many candidates were measured, in the order of their estimates
    """

    place: str
    signature: str
    choice: tuple[Any, ...]
    seconds: float
    tried: int


Records = dict[tuple[str, str], Record]


@dataclass(frozen=True)
class Database:
    """The records in a folder, which need not exist before the first is added."""

    folder: Path

    def records(self) -> Records:
        """By place and signature."""
        return dict(_read(self._path, *_state(self._path)))

    def add(self, records: Iterable[Record]) -> None:
        """Append the records that are news here. Raises OSError."""
        known = self.records()
        news = [record for record in records if _merged(known.get(_key(record)), record) != known.get(_key(record))]
        if not news:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            # It begins with a new line: the last one may have been cut off.
            os.write(handle, b"\n" + b"".join(_line(record) for record in news))
        finally:
            os.close(handle)

    def merge(self, other: Database) -> None:
        """Take over what another one knows: all kernels, of each the fastest. Raises OSError."""
        self.add(other.records().values())

    def tuned(self, target: Target) -> Tuned:
        """What was found on this target."""
        here = place(target)
        choices = {record.signature: record.choice for record in self.records().values() if record.place == here}
        return Tuned(tuple(sorted(choices.items())))

    @property
    def _path(self) -> Path:
        return self.folder / FILE


def place(target: Target) -> str:
    """Names the machine that measurements hold for, and what compiles for it."""
    seen = (target.arch, sorted(target.features), target.processor, target.threads, tvm.__version__, __version__)
    return hashlib.blake2b(repr(seen).encode(), digest_size=8).hexdigest()


def tuned_for(target: Target) -> Tuned:
    """What the database in the target's folder knows of it; nothing where there is no folder."""
    return UNTUNED if target.tuned is None else Database(target.tuned).tuned(target)


def _key(record: Record) -> tuple[str, str]:
    return record.place, record.signature


def _merged(known: Record | None, record: Record) -> Record:
    """The faster of two records of one kernel; candidates that either tried need not be tried again."""
    if known is None:
        return record
    return replace(min(known, record, key=lambda each: each.seconds), tried=max(known.tried, record.tried))


def _line(record: Record) -> bytes:
    text = json.dumps(asdict(record)).encode()
    return text + f" {zlib.crc32(text):08x}\n".encode()


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int, _size: int) -> Records:
    records: Records = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return records
    for record in map(_record, lines):
        if record is not None:
            records[_key(record)] = _merged(records.get(_key(record)), record)
    return records


def _record(line: bytes) -> Record | None:
    """The record of a line; None for one that is damaged, or of another version."""
    text, _, checksum = line.rpartition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        found = json.loads(text)
        return Record(**{**found, "choice": tuple(found["choice"])})
    except (ValueError, KeyError, TypeError):
        return None
