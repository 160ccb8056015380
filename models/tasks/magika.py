"""Which type of file are these bytes? Magika's classifier on real files, accuracy.

A sample is {"bytes": [1, 2048] int32, "label": [1] int64}: a file of a pinned package, or some of its lines where
it is a text of more than 2 kB, and the type that the file's extension tells. Features as magika 1.0.3 takes them:

    bytes = first 1024 of lstrip(first 4096 bytes) | last 1024 of rstrip(last 4096 bytes), padded by 256 in between
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from lwc.models.packages import Package, fetch
from lwc.models.tasks.texts import in_split
from lwc.models.zoo_table import MAGIKA

# Two are source archives: their example and test files are in no wheel.
PYGMENTS = Package(
    name="pygments",
    version="2.21.0",
    sha256="610ca751c9bc2492b38eb9a38a7fbc93edbbb2d7182edaf34e66ae493dee5c8c",
    licence="BSD-2-Clause",
)
PUREMAGIC = Package(
    name="puremagic",
    version="1.30",
    sha256="f9ff7ac157d54e9cf3bff1addfd97233548e75e685282d84ae11e7ffee1614c9",
    licence="MIT",
)
ANSIBLE = Package(
    name="ansible-core",
    version="2.19.14",
    sha256="d518d0e96fa75bedfe9b0a96d5b158aa712d092961824c115140c8677b88ff06",
    licence="GPL-3.0-or-later",
    python="3.11",
)
BOKEH = Package(
    name="bokeh",
    version="3.9.2",
    sha256="448e07d5ee78231f5bdece3be020024bb98696c0d6b127e0e2df0b8ba8fa9765",
    licence="BSD-3-Clause",
)
SOURCES = (
    (PYGMENTS, "pygments-2.21.0/tests/examplefiles"),
    (PUREMAGIC, "puremagic-1.30/test/resources"),
    (ANSIBLE, "."),
    (BOKEH, "."),
)

_PADDING = 256
_HALF = 1024
_BLOCK = 4096
_SMALLEST_FILE = 300
_SHORTEST_EXCERPT, _LONGEST_EXCERPT = 1024, 8192
_EXCERPTS_PER_FILE = 4
_FILES_PER_TYPE = 32
_CALIBRATION_COUNT = 256

_TEXT_TYPES = {
    "asm": "asm", "awk": "awk", "bat": "batch", "bib": "bib", "c": "c", "cbl": "cobol", "clj": "clojure",
    "cob": "cobol", "coffee": "coffeescript", "cpp": "cpp", "cs": "cs", "css": "css", "dart": "dart",
    "erl": "erlang", "f90": "fortran", "go": "go", "gradle": "gradle", "groovy": "groovy", "hs": "haskell",
    "ini": "ini", "java": "java", "jl": "julia", "js": "javascript", "json": "json", "kt": "kotlin",
    "lisp": "lisp", "lsp": "lisp", "lua": "lua", "ml": "ocaml", "pas": "pascal", "php": "php", "po": "po",
    "proto": "proto", "ps": "postscript", "ps1": "powershell", "py": "python", "r": "r", "rb": "ruby",
    "reg": "winregistry", "rs": "rust", "rst": "rst", "scala": "scala", "sh": "shell", "smali": "smali",
    "sol": "solidity", "sql": "sql", "svg": "svg", "swift": "swift", "toml": "toml", "ts": "typescript",
    "vb": "vba", "vue": "vue", "xml": "xml", "yaml": "yaml", "yar": "yara", "yml": "yaml", "zig": "zig",
}  # fmt: skip
# A piece of these is not of the type any more: they are one expression, or known by their first lines.
_WHOLE_TYPES = frozenset({"json", "postscript", "svg", "vue", "xml"})
_BINARY_TYPES = {
    "7z": "sevenzip", "bmp": "bmp", "bz2": "bzip", "doc": "doc", "docx": "docx", "exe": "pebin", "flv": "flv",
    "gif": "gif", "gz": "gzip", "ico": "ico", "iso": "iso", "jpg": "jpeg", "mkv": "mkv", "mp3": "mp3",
    "mp4": "mp4", "pcapng": "pcap", "png": "png", "ppt": "ppt", "pptx": "pptx", "psd": "psd", "rar": "rar",
    "swf": "swf", "tar": "tar", "tga": "tga", "tif": "tiff", "wav": "wav", "webp": "webp", "xls": "xls",
    "xlsx": "xlsx", "xz": "xz", "zip": "zip",
}  # fmt: skip


@dataclass(frozen=True)
class TypedFile:
    """A file, the type that its extension tells, and how many items it gives: itself, and excerpts."""

    path: Path
    type: str
    parts: int = 1


def samples(count: int, seed: int = 0, split: str = "calibration") -> Iterator[dict[str, NDArray[Any]]]:
    """At most count files and excerpts of one split, in an order by seed; a file is in one split only."""
    labels = {label: index for index, label in enumerate(label_space())}
    items = [(file, part) for file in typed_files(split) for part in range(file.parts)]
    for position in np.random.default_rng(seed).permutation(len(items))[:count]:
        file, part = items[position]
        content = file.path.read_bytes()
        if part > 0:
            content = excerpt(content, np.random.default_rng([seed, int(position)]))
        label = np.array([labels[file.type]], dtype=np.int64)
        yield {"bytes": features(content)[np.newaxis], "label": label}


def calibration() -> Iterator[dict[str, NDArray[Any]]]:
    """For --calib lwc.models.tasks.magika:calibration."""
    return samples(_CALIBRATION_COUNT)


def metric(outputs: Mapping[str, NDArray[Any]], sample: Mapping[str, NDArray[Any]]) -> float:
    """1 where the most probable type is the true one, else 0; outputs: one array [1, types]."""
    (probabilities,) = outputs.values()
    return float(probabilities[0].argmax() == sample["label"][0])


def label_space() -> tuple[str, ...]:
    """The types that the classifier tells apart, in the order of its output."""
    config = fetch(MAGIKA) / "magika" / "models" / "standard_v3_3" / "config.min.json"
    return tuple(json.loads(config.read_text(encoding="utf-8"))["target_labels_space"])


@lru_cache(maxsize=2)
def typed_files(split: str) -> tuple[TypedFile, ...]:
    """The files of one split, of all sources."""
    return tuple(find_typed_files([fetch(package) / folder for package, folder in SOURCES], split))


def find_typed_files(roots: Sequence[Path], split: str) -> Iterator[TypedFile]:
    """Files of one split, with a known extension and 300 bytes or more: 32 of a type at most.

    Which ones, and the split, depend on their names' CRC-32 alone: the same on every machine.
    """
    taken: dict[str, int] = {}
    for root in roots:
        named = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
        for name, path in sorted(named.items(), key=lambda item: crc32(item[0].encode("utf-8"))):
            kind = _type_of(path)
            if kind is None or taken.get(kind, 0) == _FILES_PER_TYPE:
                continue
            size = path.stat().st_size if path.is_file() else 0
            if size >= _SMALLEST_FILE and in_split(name, split):
                taken[kind] = taken.get(kind, 0) + 1
                yield TypedFile(path, kind, 1 + _excerpts(kind, size))


def _type_of(path: Path) -> str | None:
    extension = path.suffix[1:].lower()
    return _TEXT_TYPES.get(extension) or _BINARY_TYPES.get(extension)


def _excerpts(kind: str, size: int) -> int:
    is_divisible = kind not in _WHOLE_TYPES and kind not in _BINARY_TYPES.values()
    return _EXCERPTS_PER_FILE if is_divisible and size >= 2 * _SHORTEST_EXCERPT else 0


def excerpt(content: bytes, rng: np.random.Generator) -> bytes:
    """Whole lines from a random place, 1 to 8 kB of them as far as the text reaches."""
    length = int(np.exp(rng.uniform(np.log(_SHORTEST_EXCERPT), np.log(_LONGEST_EXCERPT))))
    start = int(rng.integers(max(1, len(content) - length + 1)))
    begin = content.rfind(b"\n", 0, start) + 1
    end = content.find(b"\n", start + length)
    return content[begin:] if end < 0 else content[begin : end + 1]


def features(content: bytes) -> NDArray[np.int32]:
    """What the classifier sees of a file: [2048], see the top of this module."""
    first = content[:_BLOCK].lstrip()[:_HALF]
    last = content[-_BLOCK:].rstrip()[-_HALF:]
    seen = np.full(2 * _HALF, _PADDING, dtype=np.int32)
    seen[: len(first)] = np.frombuffer(first, dtype=np.uint8)
    seen[2 * _HALF - len(last) :] = np.frombuffer(last, dtype=np.uint8)
    return seen
