"""Model Stock: how far from the base towards the average of its children the center of all such children lies.

    t = k c / (1 + (k - 1) c)        merged = t mean(x_i) + (1 - t) base        (Jang et al. 2024, eq. 6)

c is the mean cosine between the task vectors of the k models, layer by layer. Fine-tuned weights lie on a thin shell
around a center; two of them and the base say where.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.parts import Array, Part, Parts, squares
from lwc.passes.solvers.task_vectors import sum_of

NO_LENGTH = 1e-6  # least product of lengths that a dot product is divided by
SINGULAR = 1e-6  # of 1 + (k - 1) c: task vectors that cancel say nothing, and the base stays


def model_stock(parts: Parts) -> Iterator[Array]:
    """The base of two models or more, moved towards their average as far as their agreement says."""
    ratio = stock_ratio(offset_products(parts))

    def moved(part: Part) -> Array:
        assert part.base is not None
        kind = part.base.dtype.type
        mean = sum_of(part.tensors) / kind(len(part.tensors))
        return mean * kind(ratio) + part.base * kind(1.0 - ratio)

    yield from parts.each(moved)


def offset_products(parts: Parts) -> NDArray[np.float64]:
    """<d_i, d_j> of all task vectors, [models, models]."""
    count = len(parts.tensors)

    def products(part: Part) -> NDArray[np.float64]:
        found, offsets = np.zeros((count, count)), part.offsets()
        for i, j in combinations_with_replacement(range(count), 2):
            found[i, j] = squares(offsets[i], offsets[j])
        return found

    return sum(parts.each(products), np.zeros((count, count)))


def stock_ratio(products: NDArray[np.float64]) -> float:
    """t from the upper triangle of <d_i, d_j>, [models, models]."""
    count = len(products)
    lengths = np.sqrt(products.diagonal())
    cosines = [
        min(max(products[i, j] / max(lengths[i] * lengths[j], NO_LENGTH), -1.0), 1.0)
        for i, j in combinations(range(count), 2)
    ]
    cosine = math.fsum(cosines) / len(cosines)
    denominator = 1.0 + (count - 1) * cosine
    return 0.0 if abs(denominator) < SINGULAR else count * cosine / denominator
