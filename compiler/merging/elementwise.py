"""The methods that need no data: from the parts of one parameter to the parts of the merged one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from lwc.compiler.merging.align import Group
from lwc.compiler.merging.methods import KEEP, METHODS
from lwc.compiler.merging.recipe import Recipe, Settings
from lwc.compiler.merging.roles import Role
from lwc.passes.solvers.averaging import linear, slerp
from lwc.passes.solvers.parts import Array, Parts
from lwc.passes.solvers.stock import model_stock
from lwc.passes.solvers.task_vectors import Thinning, draw_key, drop, task_sum, trims

Merger = Callable[[Parts, Settings, str, int], Iterator[Array]]


def merge_group(recipe: Recipe, group: Group, parts: Parts) -> Iterator[Array]:
    """Merge one parameter as the recipe says, averaged where the method looks at data, but not at this parameter."""
    settings = recipe.of(group.name)
    if settings.method == KEEP:
        return kept(parts)
    if group.role is Role.STATISTIC:
        return average_statistic(parts, settings)
    if METHODS[settings.method].module is not None:
        settings = replace(settings, method="linear")
    return merge_parts(parts, settings, group.name, recipe.seed)


def merge_parts(parts: Parts, settings: Settings, name: str, seed: int) -> Iterator[Array]:
    """Merge one parameter. name, seed: what random draws come from"""
    return _MERGERS[settings.method](parts, settings, name, seed)


def average_statistic(parts: Parts, settings: Settings) -> Iterator[Array]:
    """Means and variances of batches, whatever the method: their average, so that variances stay positive.

    Weights below zero, of models that are subtracted, count as zero.
    """
    shares = [max(share, 0.0) for share in settings.shares(len(parts.tensors))]
    return linear(parts, shares) if sum(shares) > 0.0 else kept(parts)


def kept(parts: Parts, *_: object) -> Iterator[Array]:
    """The base, or the first model where there is none."""
    for part in parts:
        yield part.tensors[0] if part.base is None else part.base


def _linear(parts: Parts, settings: Settings, name: str, seed: int) -> Iterator[Array]:
    return linear(parts, settings.shares(len(parts.tensors)))


def _slerp(parts: Parts, settings: Settings, name: str, seed: int) -> Iterator[Array]:
    first, second = settings.shares(2)
    return slerp(parts, second / (first + second))


def _summed(
    parts: Parts, settings: Settings, thinnings: list[Thinning] | None, *, elect: bool, normalize: bool
) -> Iterator[Array]:
    return task_sum(
        parts,
        settings.shares(len(parts.tensors)),
        thinnings,
        scale=settings.scale,
        elect=elect,
        normalize=normalize if settings.normalize is None else settings.normalize,
    )


def _task_arithmetic(parts: Parts, settings: Settings, name: str, seed: int) -> Iterator[Array]:
    return _summed(parts, settings, None, elect=False, normalize=False)


def _ties(parts: Parts, settings: Settings, name: str, seed: int) -> Iterator[Array]:
    thinnings: list[Thinning] = [*trims(parts, settings.densities(len(parts.tensors)))]
    return _summed(parts, settings, thinnings, elect=True, normalize=True)


def _dare(parts: Parts, settings: Settings, name: str, seed: int, elect: bool = False) -> Iterator[Array]:
    densities = settings.densities(len(parts.tensors))
    thinnings: list[Thinning] = [
        drop(parts, k, density, draw_key(seed, name, k), settings.rescale) for k, density in enumerate(densities)
    ]
    return _summed(parts, settings, thinnings, elect=elect, normalize=False)


def _dare_ties(parts: Parts, settings: Settings, name: str, seed: int) -> Iterator[Array]:
    return _dare(parts, settings, name, seed, elect=True)


def _model_stock(parts: Parts, settings: Settings, name: str, seed: int) -> Iterator[Array]:
    return model_stock(parts)


_MERGERS: dict[str, Merger] = {
    KEEP: kept,
    "linear": _linear,
    "slerp": _slerp,
    "task-arithmetic": _task_arithmetic,
    "ties": _ties,
    "dare": _dare,
    "dare-ties": _dare_ties,
    "model-stock": _model_stock,
}
