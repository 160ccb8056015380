"""SignRound: offsets of half a step at most; tuned ends lose less still."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.passes.solvers.grid import layer_loss, make_grid
from lwc.passes.solvers.signround import signround, signround_tuned

KINDS = ("correlated", "zeros", "one sample", "dead inputs", "equal inputs", "huge", "tiny", "not finite")


@pytest.mark.parametrize("symmetric", [True, False])
def test_it_loses_less_than_half_of_nearest_where_inputs_are_correlated(layer, symmetric):
    weight, gram = layer(32, 100)
    grid = make_grid(weight, bits=4, symmetric=symmetric, group=20)
    nearest, signed = (
        layer_loss(weight, grid.dequantize(codes), gram)
        for codes in (grid.quantize(weight), signround(weight, gram, grid))
    )
    assert signed < 0.5 * nearest


@pytest.mark.parametrize("symmetric", [True, False])
def test_tuned_ends_lose_less_than_fixed_ones(layer, symmetric):
    weight, gram = layer(32, 100)
    grid = make_grid(weight, bits=3, symmetric=symmetric, group=20)
    fixed = layer_loss(weight, grid.dequantize(signround(weight, gram, grid)), gram)
    tuned, codes = signround_tuned(weight, gram, grid)
    assert layer_loss(weight, tuned.dequantize(codes), gram) < fixed
    assert (tuned.scale <= grid.scale * 1.000001).all()
    assert (tuned.scale >= 0.499999 * grid.scale).all()


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 3), st.integers(1, 9), st.sampled_from(KINDS), st.booleans(), st.integers(0, 5), st.integers(0, 99)
)
def test_tuned_ends_are_never_worse_than_nearest(layer, rows, columns, kind, symmetric, group, seed):
    weight, gram = layer(rows, columns, kind, seed)
    grid = make_grid(weight, bits=4, symmetric=symmetric, group=group)
    tuned, codes = signround_tuned(weight, gram, grid)
    assert grid.floor <= codes.min()
    assert codes.max() <= grid.ceiling
    if kind == "not finite":
        assert np.array_equal(codes, grid.quantize(weight))
        return
    before, after = (
        layer_loss(weight, rounded, gram)
        for rounded in (grid.dequantize(grid.quantize(weight)), tuned.dequantize(codes))
    )
    assert after <= before * (1 + 1e-6) + 1e-10 * np.trace(gram)
