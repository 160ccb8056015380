"""The table of rounding solvers, and layers of one or several groups solved with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lwc.compiler.core.errors import BadPlan
from lwc.passes.solvers.adaround import adaround
from lwc.passes.solvers.gptq import gptq
from lwc.passes.solvers.grid import Codes, Floats, Grid, Rounding, Weights, layer_loss, make_grid, stacked
from lwc.passes.solvers.quantease import quantease
from lwc.passes.solvers.signround import signround


def nearest(weight: Weights, gram: Floats, grid: Grid) -> Codes:
    """Each weight to the code nearest to it."""
    return grid.quantize(weight)


ROUNDINGS: tuple[tuple[str, Rounding], ...] = (
    ("nearest", nearest),
    ("gptq", gptq),
    ("quantease", quantease),
    ("adaround", adaround),
    ("signround", signround),
)


def solve(name: str, weight: Weights, gram: Floats, grid: Grid) -> Codes:
    """Codes [out, in] by the solver of this name.

    gram: [in, in], or [groups, in, in] for a convolution whose outputs are as many equal runs of rows, each with
    its own inputs. Raises BadPlan
    """
    rounding = dict(ROUNDINGS).get(name)
    if rounding is None:
        raise BadPlan(f"There is no rounding {name!r}.", f"Use one of {', '.join(known for known, _ in ROUNDINGS)}.")
    parts = [rounding(weight[rows], part, grid.rows(rows)) for rows, part in _runs(len(weight), gram)]
    return np.concatenate(parts)


def solve_grid(
    weight: Weights,
    gram: Floats | None,
    *,
    bits: int,
    symmetric: bool,
    group: int = 0,
    method: str = "minmax",
    reduce_range: bool = False,
) -> Grid:
    """`make_grid` with the Gram matrix as importance, which may be [groups, in, in] as for `solve`, or unknown."""
    runs: Iterable[tuple[slice, Floats | None]] = [(slice(None), None)] if gram is None else _runs(len(weight), gram)
    grids = [
        make_grid(
            weight[rows], bits=bits, symmetric=symmetric, group=group, method=method, importance=part,
            reduce_range=reduce_range,
        )
        for rows, part in runs
    ]  # fmt: skip
    return stacked(grids)


def loss(weight: Weights, gram: Floats, rounded: Weights) -> float:
    """`layer_loss` with one Gram matrix or one per group."""
    return sum(layer_loss(weight[rows], rounded[rows], part) for rows, part in _runs(len(weight), gram))


def best_rounding(weight: Weights, gram: Floats, grid: Grid, names: Sequence[str]) -> tuple[str, Codes, float]:
    """The solver with the least layer loss among `names`, the first of equal ones; its codes and that loss."""
    solved = [(name, solve(name, weight, gram, grid)) for name in names]
    losses = [loss(weight, gram, grid.dequantize(codes)) for _, codes in solved]
    at = int(np.argmin(losses))
    return (*solved[at], losses[at])


def _runs(rows: int, gram: Floats) -> Iterator[tuple[slice, Floats]]:
    """The rows that share a Gram matrix, with it."""
    parts = gram if gram.ndim == 3 else gram[None]
    size = rows // len(parts)
    assert size * len(parts) == rows, f"{rows} outputs in {len(parts)} groups"
    for number, part in enumerate(parts):
        yield slice(number * size, (number + 1) * size), part
