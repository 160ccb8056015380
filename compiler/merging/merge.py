"""`lwc.merge` and `lwc merge`: models in, one model out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Progress, Silent
from lwc.compiler.core.storage import data_files
from lwc.compiler.merging.align import Aligned, DoesNotMatch, Group, Missing, align
from lwc.compiler.merging.curve import Curve
from lwc.compiler.merging.elementwise import merge_group
from lwc.compiler.merging.job import Job as Job
from lwc.compiler.merging.masks import keep_masks
from lwc.compiler.merging.methods import KEEP, METHODS, check_inputs
from lwc.compiler.merging.recipe import Recipe, make_recipe
from lwc.compiler.merging.roles import Role
from lwc.compiler.merging.stream import streamed, write_merged

AVERAGED = "average"
Openable = str | os.PathLike[str] | Model


@dataclass(frozen=True)
class Line:
    """One parameter of the merged model. names: what each model calls it;  method: how it was merged"""

    name: str
    shape: tuple[int, ...]
    role: str
    method: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    model: its tensors are made when they are asked for;  out: where it was written, None: nowhere
    missing: what has no counterpart and was kept (`partial`);  guessed: layers that only their order tells apart
    curves: what a method tried, and what came of it
    """

    method: str
    models: tuple[str, ...]
    base: str | None
    lines: tuple[Line, ...]
    missing: tuple[Missing, ...]
    guessed: tuple[str, ...]
    notes: tuple[str, ...]
    model: Model = field(repr=False)
    out: str | None = None
    bytes: int = 0
    seconds: float = 0.0
    curves: tuple[Curve, ...] = ()


class DataMethod(Protocol):
    def merge(self, job: Job) -> tuple[Model, Sequence[str]]: ...


def merge(
    models: Sequence[Openable] | Openable,
    out: str | os.PathLike[str] | None = None,
    *,
    base: Openable | None = None,
    recipe: str | os.PathLike[str] | Recipe | None = None,
    calib: Sequence[object] = (),
    metric: object | None = None,
    lora: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
    **settings: Any,
) -> Merged:
    """Merge models of one architecture, or fold adapters into one model, and write the result to `out`.

    lora: files of PEFT adapters, or their folders; of the settings `scale` and `partial` count then
    settings: those of `lwc.compiler.merging.recipe`: method, weights, density, scale, rescale, normalize, seed, partial
    Raises UsageError, NotAModel and its like, DoesNotMatch where parameters have no counterpart and partial is not set.
    """
    start, told = time.perf_counter(), progress or Silent()
    models = [models] if isinstance(models, (str, os.PathLike, Model)) else models
    if lora:
        others = {"base": base, "recipe": recipe, "calib": calib or None, "metric": metric}
        return import_module(f"{__package__}.lora").merge_adapters(models, lora, out, {**others, **settings}, told)  # type: ignore[no-any-return]
    plan = recipe if isinstance(recipe, Recipe) else make_recipe(settings, Path(recipe) if recipe is not None else None)
    if isinstance(recipe, Recipe) and settings:
        raise UsageError("Settings are given beside a recipe that holds them.", "Leave out one.")
    root = base if base is not None else plan.base
    _check(plan, len(models), root is not None)
    opened = [_opened(model) for model in ([] if root is None else [root]) + list(models)]
    aligned = align(_with_own_names(opened), told)
    if aligned.missing and not plan.partial:
        raise DoesNotMatch(aligned.missing)
    plan.check_patterns(group.name for group in aligned.groups)
    job = Job(aligned, plan, root is not None, tuple(calib), metric, told)
    model, notes = _merged(job)
    if not METHODS[plan.settings.method].tidies:
        notes = (*notes, *keep_masks(model, aligned, plan, job.based))
    estimated = 0
    if job.calib:  # what looks at data brings the runtimes: a third of a second that other merges do without
        from lwc.compiler.merging.statistics import reestimate

        model, estimated = reestimate(job, model)
    if out is not None:
        told.stage("Merging", len(aligned.groups))
        write_merged(model, Path(out), external=bool(data_files(opened[0].ir)))
    return _report(job, model, (*_notes(aligned, plan, estimated), *notes), out, start)


def _check(plan: Recipe, models: int, based: bool) -> None:
    """Raise UsageError for a method, of all or of layers, that cannot take these models."""
    check_inputs(plan.settings.method, models, based)
    plan.check(models)
    for name in {str(override.changes["method"]) for override in plan.overrides if "method" in override.changes}:
        if name != KEEP:
            check_inputs(name, models, based and METHODS[name].base)


def _opened(model: Openable) -> Model:
    return model if isinstance(model, Model) else Model.open(os.fspath(model))


def _with_own_names(models: Sequence[Model]) -> list[Model]:
    """Models whose names tell them apart: by their paths where their files have one name."""
    names = [model.name for model in models]
    return [
        Model(model.ir, str(model.source or f"{model.name} ({k + 1})"), model.source)
        if names.count(model.name) > 1
        else model
        for k, model in enumerate(models)
    ]


def _merged(job: Job) -> tuple[Model, Sequence[str]]:
    method = METHODS[job.recipe.settings.method]
    if method.module is not None:
        module: DataMethod = import_module(f"lwc.compiler.merging.{method.module}")
        return module.merge(job)

    merged = partial(merge_group, job.recipe)
    return streamed(job.aligned, merged, base=job.based, on_merged=lambda _: job.progress.advance()), ()


def _notes(aligned: Aligned, plan: Recipe, estimated: int) -> Iterator[str]:
    statistics = sum(group.role is Role.STATISTIC for group in aligned.groups)
    if estimated:
        yield f"The batch statistics of {estimated} normalizations were estimated anew on the samples."
    elif statistics:
        yield f"{statistics} batch statistics were averaged: with --calib they are estimated anew."
    if aligned.cleaned:
        yield "The models matched after undoing fusions that differ; the result is in the cleaned form."
    if aligned.guessed:
        first = ", ".join(f"'{name}'" for name in aligned.guessed[:3])
        yield f"Neither structure nor names tell {len(aligned.guessed)} layers apart, their order did: {first}."
    if aligned.missing:
        yield f"{len(aligned.missing)} tensors or operators have no counterpart: '{aligned.models[0].name}' keeps its."


def _report(
    job: Job, model: Model, notes: tuple[str, ...], out: str | os.PathLike[str] | None, start: float
) -> Merged:
    names, plan = tuple(one.name for one in job.aligned.models), job.recipe
    return Merged(
        method=plan.settings.method,
        models=names[1:] if job.based else names,
        base=names[0] if job.based else None,
        lines=tuple(_line(group, plan) for group in job.aligned.groups),
        missing=job.aligned.missing,
        guessed=job.aligned.guessed,
        notes=notes,
        model=model,
        out=None if out is None else os.fspath(out),
        bytes=model.weight_bytes(),
        seconds=time.perf_counter() - start,
        curves=tuple(job.curves),
    )


def _line(group: Group, plan: Recipe) -> Line:
    method = plan.of(group.name).method
    averaged = group.role is Role.STATISTIC and method != KEEP
    names = tuple(value.name or "" for value in group.values)
    return Line(group.name, group.shape, group.role.value, AVERAGED if averaged else method, names)
