"""The folder a compile leaves behind: written aside, sealed by a manifest, renamed into place, checked on load.

manifest.json   {schema, lwc_version, backend, target, inputs, outputs, files: {name: sha256}}
model.onnx ...  whatever the backend built;   plan.json  report.json  report.html
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lwc._version import __version__
from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import BadInput, ChangedArtifact, UsageError
from lwc.compiler.core.plain import finite
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.report import (
    Accuracy,
    CompileReport,
    Latency,
    LatencyPair,
    OutputFidelity,
    SiteReport,
)
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.core.target import Target

SCHEMA = 1
MANIFEST = "manifest.json"
PLAN = "plan.json"
REPORT = "report.json"
PAGE = "report.html"


@dataclass(frozen=True)
class Manifest:
    """What an artifact is made of. files: name -> sha256 of every file but the manifest itself."""

    lwc_version: str
    backend: str
    target: dict[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    files: dict[str, str]


@dataclass(frozen=True)
class Artifact:
    """A compiled model on disk."""

    folder: Path

    @staticmethod
    def open(folder: str | Path, *, check: bool = True) -> Artifact:
        """The artifact in `folder`; `check` compares every file with the manifest.

        Raises BadInput when it is no artifact, ChangedArtifact when a file is missing or differs.
        """
        artifact = Artifact(Path(folder))
        manifest = artifact.manifest
        if check:
            _compare(artifact.folder, manifest)
        return artifact

    @cached_property
    def manifest(self) -> Manifest:
        """What the folder should hold."""
        return _read_manifest(self.folder)

    @cached_property
    def plan(self) -> Plan:
        """The choices that were applied. Raises BadPlan."""
        return Plan.from_json((self.folder / PLAN).read_text(encoding="utf-8"))

    @cached_property
    def report(self) -> CompileReport:
        """What was measured when it was compiled. Raises ChangedArtifact."""
        try:
            return read_report(json.loads((self.folder / REPORT).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ChangedArtifact(f"'{self.folder / REPORT}' is no report of this lwc ({error}).") from error

    @property
    def bytes(self) -> int:
        """Size of the files that the runtime needs, without plan, report and the artifacts of a front."""
        kept_out = (PLAN, REPORT, PAGE)
        names = [name for name in self.manifest.files if name not in kept_out and "/" not in name]
        return sum((self.folder / name).stat().st_size for name in names)


def is_artifact(path: str | Path) -> bool:
    """True when `path` is a folder with a manifest."""
    return (Path(path) / MANIFEST).is_file()


def check_destination(out: Path) -> None:
    """Refuse to replace anything but an artifact or an empty folder. Raises UsageError."""
    if out.is_dir():
        if any(out.iterdir()) and not is_artifact(out):
            raise UsageError(f"'{out}' is a folder with other things in it.", "Give -o another path.")
    elif out.exists() or out.is_symlink():
        raise UsageError(f"'{out}' is a file; an artifact is a folder.", "Give -o another path.")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise UsageError(f"The folder '{parent}' does not exist.", "Create it, or give -o another path.")
    if not os.access(parent, os.W_OK):
        raise UsageError(f"The folder '{parent}' cannot be written to.", "Give -o another path.")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """An empty folder beside `out` that takes its place when the block ends well and vanishes when it does not."""
    check_destination(out)
    out = out.absolute()
    with temporary_folder("artifact", beside=out.parent) as holder:
        aside = Path(holder) / out.name
        aside.mkdir()
        yield aside
        _swap(aside, out)


def seal(folder: Path, backend: str, target: Target, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Write the manifest of everything that `folder` holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    data = {
        "schema": SCHEMA,
        "lwc_version": __version__,
        "backend": backend,
        "target": {"name": target.name, "device": target.device, "fingerprint": target.fingerprint},
        "inputs": [_port_to_json(port) for port in inputs],
        "outputs": [_port_to_json(port) for port in outputs],
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }
    (folder / MANIFEST).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    h = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            h.update(piece)
    return h.hexdigest()


def write_report(folder: Path, report: CompileReport) -> None:
    """Write report.json."""
    (folder / REPORT).write_text(report_json(report), encoding="utf-8")


def report_json(report: CompileReport) -> str:
    """The report as text; infinite and undefined numbers, which JSON lacks, become null."""
    return json.dumps(finite(report.to_dict()), indent=1, allow_nan=False) + "\n"


def read_report(data: dict[str, Any]) -> CompileReport:
    """Parse what `report_json` wrote. A fidelity of null decibels is that of identical outputs: infinite."""
    latency, accuracy = data["latency"], data["accuracy"]
    outputs = {
        name: OutputFidelity(**{**one, "sqnr_db": math.inf if one["sqnr_db"] is None else one["sqnr_db"]})
        for name, one in data["fidelity"]["outputs"].items()
    }
    return CompileReport(
        **{
            **data,
            "latency": LatencyPair(Latency(**latency["original"]), Latency(**latency["compiled"]), latency["speedup"]),
            "accuracy": Accuracy(**{**accuracy, "interval95": tuple(accuracy["interval95"])}),
            "fidelity": {"outputs": outputs},
            **{name: tuple(data[name]) for name in ("reverted", "skipped", "backends")},
            "sites": tuple(SiteReport(**site) for site in data["sites"]),
            "pareto": tuple(data.get("pareto", ())),
        }
    )


def _swap(aside: Path, out: Path) -> None:
    """Rename `aside` to `out`; what was there is kept until that is done, and put back if it fails."""
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    replaced = out.exists()
    try:
        if replaced:
            out.rename(old)
        aside.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _compare(folder: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ChangedArtifact(f"'{folder}' lacks its file '{name}'.", "Compile it again.")
        if sha256(path) != expected:
            raise ChangedArtifact(
                f"The file '{name}' of '{folder}' is not the one that was compiled.", "Compile it again."
            )


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise BadInput(f"'{folder}' is not an lwc artifact: it has no {MANIFEST}.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise BadInput(f"'{folder}' has the manifest schema {data['schema']}; this lwc reads {SCHEMA}.")
        manifest = Manifest(
            data["lwc_version"],
            data["backend"],
            dict(data["target"]),
            tuple(_port_from_json(port) for port in data["inputs"]),
            tuple(_port_from_json(port) for port in data["outputs"]),
            dict(data["files"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ChangedArtifact(f"The manifest of '{folder}' cannot be read ({error}).") from error
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ChangedArtifact(f"The manifest of '{folder}' names a file outside of it: '{name}'.")
    return manifest


def _port_to_json(port: Port) -> dict[str, Any]:
    return {**asdict(port), "dtype": port.dtype.name, "shape": list(port.shape)}


def _port_from_json(data: dict[str, Any]) -> Port:
    return Port(data["name"], np.dtype(data["dtype"]), tuple(data["shape"]))
