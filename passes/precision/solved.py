"""The integer codes of a weight under a choice: solved once, however many forks of a model ask.

    w ~ scale * (code - zero)

Weight-only scales are kept in half precision, and codes are rounded for the scales as kept. Rounding to the nearest
needs the weight alone; every other rounding, and the ranges that weigh errors, take the Gram matrix of the layer's
input, one matrix per group of a grouped convolution; for a table, that of what the outputs feel of its rows.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.weights import WeightView
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.mapped import kept_together, release_pages
from lwc.compiler.core.plan import DynamicInt8, Site, StaticInt8, WeightOnly
from lwc.compiler.core.stats import LayerStats
from lwc.passes.solvers.grid import REFIT, Floats, Grid, Weights, stacked
from lwc.passes.solvers.refit import refit
from lwc.passes.solvers.roundings import solve, solve_grid

NEAREST = "nearest"
# Of the mean diagonal, added to the diagonal of an activation's Gram matrix: solvers fit what few samples happen to be
# correlated in. MiniLM's products, GPTQ, 64 sentences: error of unseen outputs 1, with 0.05 0.82, with 0.3 0.79.
RIDGE = 0.1
_BLOCK = 1 << 20  # weights rounded together, so that temporaries stay small beside a large table

Bytes = NDArray[np.uint8]
SmallCodes = NDArray[np.integer[Any]]  # int8 or uint8
IntegerChoice = WeightOnly | StaticInt8 | DynamicInt8


@dataclass(frozen=True, eq=False)
class WeightMatrix:
    """A constant of a site as a matrix.

    factor: what it is multiplied by before it is rounded (Gemm's alpha)
    """

    site: Site
    tensor: ir.TensorProtocol
    view: WeightView
    factor: float = 1.0

    def numbers(self) -> Weights:
        """[out, in] float32."""
        matrix: Weights = np.ascontiguousarray(self.view.matrix(self.tensor.numpy()), np.float32)
        return matrix if self.factor == 1.0 else matrix * np.float32(self.factor)


@dataclass(frozen=True)
class Terms:
    """What codes are solved for. half: scales are kept in float16;  the rest as in the plan's choices and make_grid."""

    bits: int
    symmetric: bool
    group: int
    weight_range: str
    rounding: str
    half: bool
    reduce_range: bool

    @staticmethod
    def of(choice: IntegerChoice, reduce_range: bool) -> Terms:
        if isinstance(choice, WeightOnly):
            half = True
            bits, symmetric, group, rounding = choice.bits, choice.symmetric, choice.group, choice.rounding
        else:
            half = False
            bits, symmetric, group, rounding = 8, True, 0, NEAREST
        return Terms(bits, symmetric, group, choice.weight_range, rounding, half, reduce_range)


def solved_weight(
    weight: WeightMatrix,
    choice: IntegerChoice,
    stats: LayerStats | None,
    memo: MutableMapping[Any, Any],
    *,
    reduce_range: bool = False,
) -> tuple[SmallCodes, Grid]:
    """Codes [out, in], int8 when symmetric and uint8 when not, and their grid.

    stats: of the weight's site;  memo: PassContext.solved;  reduce_range: see Target
    Matrices that do not see the layer's input (recurrent weights, tables of which no Gram matrix is known) are
    rounded to the nearest.
    Raises BadPlan when the choice's rounding needs a Gram matrix that the statistics do not have.
    """
    terms = Terms.of(choice, reduce_range)
    table = weight.site.op == "Gather"
    gram = stats.gram if stats is not None and (weight.view.sees_activation or table) else None
    if gram is None and not weight.view.sees_activation:
        terms = replace(terms, rounding=NEAREST)
    if terms.rounding != NEAREST and gram is None:
        raise BadPlan(
            f"The plan rounds '{weight.site.name}' by '{terms.rounding}', and there is no Gram matrix of its input.",
            "Give the statistics of this site, or choose the rounding 'nearest'.",
        )
    key = (id(weight.tensor), weight.view, weight.factor, terms, id(gram))
    if key not in memo:
        memo[key] = _Kept((weight.tensor, gram), *_solved(weight.numbers(), terms, gram if table else ridged(gram)))
        release_pages()  # of the weight and of the matrices: the next ones take as much
    kept: _Kept = memo[key]
    return kept.codes(), kept.grid


class _Kept:
    """Codes in a memo: 4-bit ones two to a byte, as a search keeps every weight of the model in several choices.

    Large ones lie in files.

    alive: what the memo's key names by id
    """

    def __init__(self, alive: tuple[Any, ...], codes: SmallCodes, grid: Grid) -> None:
        self.alive = alive
        self._shape, self._dtype = codes.shape, codes.dtype
        self._paired = grid.ceiling - grid.floor < 16
        packed = paired(evened(codes - grid.floor)) if self._paired else codes
        self._bytes, scale, zero = kept_together(packed, grid.scale, grid.zero)
        self.grid = replace(grid, scale=scale, zero=zero)

    def codes(self) -> SmallCodes:
        if not self._paired:
            return self._bytes
        codes = np.stack([self._bytes & 0xF, self._bytes >> 4], axis=-1).reshape(-1)
        found: SmallCodes = codes[: self._shape[0] * self._shape[1]].reshape(self._shape).astype(self._dtype)
        found += self._dtype.type(self.grid.floor)
        return found


def evened(codes: NDArray[Any]) -> Bytes:
    """All codes in a row, and a zero when their number is odd."""
    flat = np.zeros(codes.size + codes.size % 2, np.uint8)
    flat[: codes.size] = np.ascontiguousarray(codes).reshape(-1).view(np.uint8)
    return flat


def paired(nibbles: Bytes) -> Bytes:
    """Two codes to a byte along the last axis, the first in the low half."""
    return (nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)).astype(np.uint8)


def ridged(gram: Floats | None) -> Floats | None:
    """A Gram matrix, [in, in] or one per group, with a share of its mean diagonal on the diagonal."""
    if gram is None:
        return None
    mean = np.trace(gram, axis1=-2, axis2=-1)[..., None, None] / gram.shape[-1]
    found: Floats = gram + RIDGE * mean * np.eye(gram.shape[-1])
    return found


def _solved(weight: Weights, terms: Terms, gram: Floats | None) -> tuple[SmallCodes, Grid]:
    if gram is not None and gram.ndim == 3:
        parts = [_round(rows, terms, part) for rows, part in zip(np.split(weight, len(gram)), gram, strict=True)]
    else:
        step = max(1, _BLOCK // max(1, weight.shape[1]), 0 if gram is None else weight.shape[1])
        parts = [_round(weight[at : at + step], terms, gram) for at in range(0, max(1, len(weight)), step)]
    return np.concatenate([codes for codes, _ in parts]), stacked([grid for _, grid in parts])


def _round(weight: Weights, terms: Terms, gram: Floats | None) -> tuple[SmallCodes, Grid]:
    grid = solve_grid(
        weight,
        gram,
        bits=terms.bits,
        symmetric=terms.symmetric,
        group=terms.group,
        method=terms.weight_range,
        reduce_range=terms.reduce_range,
    )
    if terms.half:
        grid = replace(grid, scale=halved(grid.scale))
    codes = grid.quantize(weight) if gram is None else solve(terms.rounding, weight, gram, grid)
    if gram is not None and terms.weight_range == REFIT:
        codes, grid = refit(weight, gram, grid, codes, halved)
    return codes.astype(np.int8 if grid.floor < 0 else np.uint8), grid


def halved(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scales as float16 keeps them: to the nearest, but up where float16 is coarse, lest weights be clipped."""
    limits = np.finfo(np.float16)
    nearest = np.clip(scale, limits.smallest_subnormal, limits.max).astype(np.float16)
    up = np.where(nearest.astype(np.float32) < scale, np.nextafter(nearest, limits.max), nearest)
    kept: NDArray[np.float32] = np.where(scale < limits.tiny, up, nearest).astype(np.float32)
    return kept
