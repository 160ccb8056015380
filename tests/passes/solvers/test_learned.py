"""Learned clipping lowers the layer objective, and never raises it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.passes.solvers.grid import layer_loss, make_grid

KINDS = ("correlated", "zeros", "one sample", "dead inputs", "equal inputs", "huge", "tiny")


def loss(weight, gram, method, symmetric=True, group=8):
    grid = make_grid(weight, bits=4, symmetric=symmetric, group=group, method=method, importance=gram)
    return layer_loss(weight, grid.dequantize(grid.quantize(weight)), gram)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 4), st.integers(1, 12), st.sampled_from(KINDS), st.booleans(), st.integers(0, 5), st.integers(0, 99)
)
def test_it_is_never_worse_than_the_hessian(layer, rows, columns, kind, symmetric, group, seed):
    weight, gram = layer(rows, columns, kind, seed)
    before, after = (loss(weight, gram, method, symmetric, group) for method in ("hessian", "learned"))
    # Losses near zero are differences of rounding errors.
    noise = 1e-10 * float(np.trace(gram)) * float(np.square(weight).sum())
    assert after <= before * (1 + 1e-6) + noise


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [0, 8, 32])
def test_it_loses_clearly_less_where_inputs_are_correlated(layer, symmetric, group):
    weight, gram = layer(32, 48)
    assert loss(weight, gram, "learned", symmetric, group) < 0.9 * loss(weight, gram, "hessian", symmetric, group)


def test_of_a_diagonal_it_makes_what_the_hessian_makes(layer):
    weight, gram = layer(4, 12)
    by_name = [
        make_grid(weight, bits=4, symmetric=True, group=4, method=name, importance=np.diagonal(gram)).scale
        for name in ("hessian", "learned")
    ]
    assert np.array_equal(*by_name)
