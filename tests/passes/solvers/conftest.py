"""Layers to solve: a weight, and the Gram matrix of inputs that are correlated, or degenerate in some way."""

from __future__ import annotations

import numpy as np
import pytest

SPECIAL = {
    "correlated": lambda x: x,
    "zeros": lambda x: x * 0.0,
    "one sample": lambda x: x[:1],
    "dead inputs": lambda x: x * (np.arange(x.shape[1]) % 2),
    "equal inputs": lambda x: np.repeat(x[:, :1], x.shape[1], axis=1),
    "huge": lambda x: x * 1e100,
    "tiny": lambda x: x * 1e-100,
    "not finite": lambda x: x * np.inf,
}


@pytest.fixture(scope="session")
def layer():
    """layer(rows, columns, kind='correlated', seed=0) -> weight [rows, columns], gram [columns, columns]"""

    def build(rows, columns, kind="correlated", seed=0):
        rng = np.random.default_rng(seed)
        mixing = rng.normal(size=(columns, columns)) * (np.arange(columns) + 1.0)[:, None] ** -1.0
        x = rng.normal(size=(4 * columns, columns)) @ mixing + 0.2 * rng.normal(size=(4 * columns, columns))
        with np.errstate(invalid="ignore"):
            x = SPECIAL[kind](x)
            gram = x.T @ x / len(x)
        return rng.normal(size=(rows, columns)).astype(np.float32), gram

    return build
