"""What the commands look at: a model file or an artifact folder, by path."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from lwc import backends
from lwc.compiler.core.artifact import Artifact
from lwc.compiler.core.backend import Backend, Session
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.model import Model
from lwc.compiler.core.storage import data_files, model_from_proto
from lwc.compiler.core.target import Target
from lwc.compiler.data import Calibration, synthesize

PathLike = str | os.PathLike[str]
Openable = PathLike | Model | onnx.ModelProto | Artifact

MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Source:
    """A model and, when it was compiled by lwc, the artifact it is part of."""

    label: str
    model: Model
    artifact: Artifact | None = None

    @property
    def backend(self) -> Backend:
        """The artifact's backend; ONNX Runtime for a model file. Raises MissingDependency."""
        return backends.get(self.artifact.manifest.backend if self.artifact else backends.REFERENCE)

    def session(self, target: Target) -> Session:
        """The session a user gets: of an artifact, what was built."""
        if self.artifact:
            return self.backend.load(self.artifact.folder, target)
        return self.backend.session(self.model, target)

    def tapped(self, target: Target, outputs: Sequence[str]) -> Session:
        """A session that returns these values of the main graph, too."""
        return self.backend.session(self.model, target, outputs)

    @property
    def bytes(self) -> int | None:
        """Size on disk of what the runtime needs; None for a model from memory."""
        if self.artifact:
            return self.artifact.bytes
        path = self.model.source
        return sum(file.stat().st_size for file in {path, *data_files(self.model.ir)}) if path else None


def open_source(source: Openable) -> Source:
    """The model or artifact. Raises NotAModel, InvalidGraph, ChangedArtifact ..."""
    if isinstance(source, Artifact):
        return _of_artifact(source)
    if isinstance(source, Model):
        return Source(source.name, source)
    if isinstance(source, onnx.ModelProto):
        return Source("model", Model(model_from_proto(source, "model"), "model"))
    path = Path(source)
    return _of_artifact(Artifact.open(path)) if path.is_dir() else Source(str(path), Model.open(path))


def open_session(path: Path, target: Target) -> Session:
    """Load what is at `path` for running alone: the graph is not looked at."""
    if path.is_dir():
        artifact = Artifact.open(path)
        return backends.get(artifact.manifest.backend).load(artifact.folder, target)
    return open_source(path).session(target)


def open_samples(
    source: Source,
    session: Session,
    *,
    calib: object | None,
    count: int,
    shape: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
) -> Calibration:
    """The user's samples, at most `count`, or as many synthetic ones. shape: fixes dynamic inputs of these."""
    ports = [replace(port, shape=tuple((shape or {}).get(port.name, port.shape))) for port in session.inputs]
    if calib is not None:
        return Calibration.open(calib, ports, limit=count, seed=seed)
    return synthesize(ports, source.model, count, seed, run=session.run)


def _of_artifact(artifact: Artifact) -> Source:
    path = artifact.folder / MODEL_FILE
    if not path.is_file():
        raise BadInput(f"'{artifact.folder}' holds no {MODEL_FILE} to look into.")
    return Source(str(artifact.folder), Model.open(path), artifact)
