"""One tensor as an average of several, straight or along the sphere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lwc.passes.solvers.parts import Array, Part, Parts, squares

STRAIGHT = 0.9995  # cosines beyond it: the arc is a line, and its sine too small to divide by
NO_LENGTH = 1e-8


def linear(parts: Parts, weights: Sequence[float]) -> Iterator[Array]:
    """sum w_i x_i / sum w_i (model soups, Wortsman et al. 2022).

    Equal weights and a shared mask of zeros give a tensor with that mask (sparse soups, Zimmer et al. 2024).
    weights: one of each model, their sum not zero
    """
    total = sum(weights)
    shares = [weight / total for weight in weights]

    def average(part: Part) -> Array:
        found = part.tensors[0] * part.tensors[0].dtype.type(shares[0])
        for share, tensor in zip(shares[1:], part.tensors[1:], strict=True):
            found += tensor * tensor.dtype.type(share)
        return found

    return parts.each(average)


def slerp(parts: Parts, t: float) -> Iterator[Array]:
    """From the first tensor (t = 0) to the second (t = 1) along the arc between their directions (Shoemake 1985).

        sin((1 - t) a) / sin a  x  +  sin(t a) / sin a  y        cos a = <x, y> / |x||y|

    Straight where they point almost the same way or away from each other, and from a tensor of zeros at right angles.
    """
    dot = xx = yy = 0.0
    for xy, x2, y2 in parts.each(_products):
        dot, xx, yy = dot + xy, xx + x2, yy + y2
    first, second = slerp_shares(dot, math.sqrt(xx), math.sqrt(yy), t)
    yield from parts.each(lambda part: _weighted(part, first, second))


def _products(part: Part) -> tuple[float, float, float]:
    x, y = part.tensors
    return squares(x, y), squares(x, x), squares(y, y)


def _weighted(part: Part, first: float, second: float) -> Array:
    x, y = part.tensors
    return x * x.dtype.type(first) + y * y.dtype.type(second)


def slerp_shares(dot: float, norm_x: float, norm_y: float, t: float) -> tuple[float, float]:
    """What x and y are multiplied by. dot: <x, y>"""
    lengths = (norm_x if norm_x > NO_LENGTH else 1.0) * (norm_y if norm_y > NO_LENGTH else 1.0)
    cosine = min(max(dot / lengths, -1.0), 1.0)
    if abs(cosine) > STRAIGHT:
        return 1.0 - t, t
    angle = math.acos(cosine)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
