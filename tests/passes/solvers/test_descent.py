"""Coordinate descent: monotone, and done when no single code can be improved."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.passes.solvers.descent import descend
from lwc.passes.solvers.grid import make_grid, row_losses

KINDS = ("correlated", "zeros", "one sample", "dead inputs", "equal inputs", "huge", "tiny")


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 9), st.sampled_from(KINDS), st.integers(0, 99))
def test_descent_never_raises_the_loss_of_any_row(layer, rows, columns, kind, seed):
    weight, gram = layer(rows, columns, kind, seed)
    gram = gram / max(float(np.max(np.diagonal(gram))), 1e-300)
    grid = make_grid(weight, bits=4, symmetric=True, group=4)
    start = np.random.default_rng(seed).integers(-8, 8, size=weight.shape).astype(np.int32)
    end = descend(weight.astype(np.float64), gram, grid, start)
    before, after = (row_losses(weight, grid.dequantize(codes), gram) for codes in (start, end))
    assert (after <= before * (1 + 1e-6) + 1e-9).all()


def test_descent_ends_at_a_fixed_point(layer):
    weight, gram = layer(30, 150)
    grid = make_grid(weight, bits=4, symmetric=True, group=32)
    end = descend(weight.astype(np.float64), gram, grid, grid.quantize(weight))
    assert np.array_equal(descend(weight.astype(np.float64), gram, grid, end), end)
    assert (end != grid.quantize(weight)).any()


def test_codes_that_it_starts_from_stay_as_they_are(layer):
    """One row alone is contiguous either way, so a transpose of it would be a view."""
    weight, gram = layer(1, 30)
    grid = make_grid(weight, bits=4, symmetric=True)
    start = grid.quantize(weight)
    before = start.copy()
    assert (descend(weight.astype(np.float64), gram, grid, start) != start).any()
    assert np.array_equal(start, before)
