"""What `import lwc` offers: the command line's verbs as functions, its options as keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from lwc import backends
from lwc.compiler.core.artifact import Artifact
from lwc.compiler.core.backend import Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Progress, Silent
from lwc.compiler.core.target import find_target
from lwc.compiler.driver import compile_model
from lwc.compiler.options import make_options
from lwc.compiler.sources import PathLike, open_source


def compile(
    model: PathLike | Model | onnx.ModelProto,
    out: PathLike | None = None,
    *,
    target: str | None = None,
    backend: str | None = None,
    calib: object | None = None,
    samples: int | None = None,
    metric: object | None = None,
    max_drop: float | None = None,
    objective: str | None = None,
    max_latency: float | None = None,
    max_size: float | None = None,
    precision: str | None = None,
    sparsity: str | None = None,
    share: float | None = None,
    best_effort: bool | None = None,
    pareto: bool | None = None,
    tune: float | None = None,
    recover: float | None = None,
    tuner: str | None = None,
    portable: bool | None = None,
    plan: PathLike | None = None,
    recipe: PathLike | None = None,
    shape: Mapping[str, Sequence[int]] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    cache: PathLike | None = None,
    no_cache: bool | None = None,
    seed: int | None = None,
    max_memory: float | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """Compile a model into the artifact folder `out` (default: the model's path with the suffix .lwc).

    Options mean what they mean on the command line; None takes the recipe's value, else the default.
    max_latency: milliseconds;  max_size: MB;  tune, recover: minutes;  max_memory: GB
    tuner: rpc://HOST:PORT/KEY, a tracker of devices to tune on instead of this machine
    calib: path, 'module:function', or an iterable of dicts input name -> array, labels beside them
    metric: name, 'module:attr', function(outputs, sample) -> float, or class with update and compute
    Raises LwcError: BadInput, BudgetNotHeld, MissingDependency, UsageError.
    """
    given = dict(locals())
    for name in ("model", "recipe", "progress"):
        del given[name]
    options = make_options(given, Path(recipe) if recipe is not None else None)
    return compile_model(open_source(model).model, options, progress or Silent())


def load(folder: PathLike, target: str = "host") -> Session:
    """Load an artifact, ready to `run({input name: array}) -> {output name: array}`.

    Every file is compared with the manifest first. Raises BadInput, ChangedArtifact, MissingDependency.
    """
    artifact = Artifact.open(Path(folder))
    return backends.get(artifact.manifest.backend).load(artifact.folder, find_target(target))
