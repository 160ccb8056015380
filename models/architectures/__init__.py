"""Architectures of `transformers`, small and with random weights, as ONNX files.

Nothing is fetched: path() builds a model from its configuration, in a process of its own, and keeps the file in the
cache, under the versions that made it. Needs the extra `coverage`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lwc.compiler.core.errors import BadInput, MissingDependency, UsageError
from lwc.models.architectures import language, mixed, vision
from lwc.models.architectures.entry import Architecture
from lwc.models.packages import cache_root, move_into_place

ARCHITECTURES: tuple[Architecture, ...] = (
    *vision.CONVOLUTIONAL,
    *vision.TRANSFORMERS,
    *vision.DENSE,
    *language.ENCODERS,
    *language.DECODERS,
    *language.TRANSLATORS,
    *mixed.SOUND,
    *mixed.SEVERAL,
)
REVISION = 1  # of what `export` does: the weights it draws, the operator set, the order of exporters
TIMEOUT_S = 240


def names() -> tuple[str, ...]:
    """Every architecture, in the table's order."""
    return tuple(entry.name for entry in ARCHITECTURES)


def get(name: str) -> Architecture:
    """One entry of the table; raises UsageError for a name that it does not have."""
    for entry in ARCHITECTURES:
        if entry.name == name:
            return entry
    raise UsageError(f"There is no architecture named {name!r}.", f"There are: {', '.join(names())}.")


def path(name: str, folder: Path | None = None, dynamic: bool = False) -> Path:
    """The model as an ONNX file, exported if need be.

    folder: where it is kept, by default in the cache;  dynamic: the first dimension of the inputs is open
    Raises MissingDependency without torch and transformers, BadInput when the export fails or takes over TIMEOUT_S.
    """
    get(name)
    try:
        made_by = f"torch{version('torch').partition('+')[0]}-transformers{version('transformers')}-r{REVISION}"
    except PackageNotFoundError as error:
        raise MissingDependency(f"Architectures need {error.name}.", 'pip install "lwc-compiler[coverage]"') from error
    final = (folder or cache_root() / "architectures") / made_by / f"{name}{'.dynamic' if dynamic else ''}.onnx"
    if not final.is_file():
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=final.parent) as scratch:
            move_into_place(_exported(name, Path(scratch), dynamic), final)
    return final


def _exported(name: str, scratch: Path, dynamic: bool) -> Path:
    made = scratch / f"{name}.onnx"
    command = [sys.executable, "-m", "lwc.models.architectures.export", name, str(made), *["--dynamic"] * dynamic]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"{name}: the export takes over {TIMEOUT_S} s.") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise BadInput(f"{name}: the export fails: {said[-1] if said else f'exit status {done.returncode}'}")
    return made
