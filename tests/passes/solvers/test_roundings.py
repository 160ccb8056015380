"""What holds for every solver in the table, and layers of several groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.errors import BadPlan
from lwc.passes.solvers.descent import descend
from lwc.passes.solvers.grid import make_grid
from lwc.passes.solvers.roundings import ROUNDINGS, best_rounding, loss, solve, solve_grid

NAMES = [name for name, _ in ROUNDINGS]
KINDS = ("correlated", "zeros", "one sample", "dead inputs", "equal inputs", "huge", "tiny", "not finite")


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 9),
    kind=st.sampled_from(KINDS),
    bits=st.sampled_from([2, 4, 8]),
    symmetric=st.booleans(),
    group=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_it_is_never_worse_than_nearest(layer, name, rows, columns, kind, bits, symmetric, group, seed):
    weight, gram = layer(rows, columns, kind, seed)
    grid = make_grid(weight, bits=bits, symmetric=symmetric, group=group)
    codes, nearest = solve(name, weight, gram, grid), grid.quantize(weight)
    assert codes.dtype == nearest.dtype
    assert codes.shape == weight.shape
    assert grid.floor <= codes.min()
    assert codes.max() <= grid.ceiling
    if kind == "not finite":
        assert np.array_equal(codes, nearest)
        return
    before, after = (loss(weight, gram, grid.dequantize(some)) for some in (nearest, codes))
    assert after <= before * (1 + 1e-6) + 1e-12 * np.trace(gram)


@pytest.mark.parametrize("name", ["quantease", "adaround", "signround"])
def test_no_single_code_can_be_improved(layer, name):
    weight, gram = layer(6, 20)
    grid = make_grid(weight, bits=4, symmetric=True, group=5)
    codes = solve(name, weight, gram, grid)
    assert np.array_equal(descend(weight.astype(np.float64), gram, grid, codes), codes)


@pytest.mark.parametrize("name", NAMES)
def test_weights_on_the_grid_stay_where_they_are(layer, name):
    weight, gram = layer(6, 20)
    grid = make_grid(weight, bits=4, symmetric=True, group=5)
    exact = grid.quantize(weight)
    assert np.array_equal(solve(name, grid.dequantize(exact), gram, grid), exact)


@pytest.mark.parametrize("name", NAMES)
def test_neither_weight_nor_gram_is_written_to_and_twice_is_the_same(layer, name):
    weight, gram = layer(6, 20)
    grid = make_grid(weight, bits=4, symmetric=True, group=5)
    before = weight.copy(), gram.copy()
    first = solve(name, weight, gram, grid)
    assert np.array_equal(first, solve(name, weight, gram, grid))
    assert np.array_equal(weight, before[0])
    assert np.array_equal(gram, before[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_an_empty_weight_has_no_codes(name, shape):
    weight = np.zeros(shape, np.float32)
    grid = make_grid(weight, bits=4, symmetric=True)
    assert solve(name, weight, np.eye(shape[1]), grid).shape == shape


@pytest.mark.parametrize("name", NAMES)
def test_each_group_of_a_convolution_is_solved_on_its_own(layer, name):
    parts = [layer(4, 9, seed=seed) for seed in range(3)]
    weight, gram = np.concatenate([w for w, _ in parts]), np.stack([g for _, g in parts])
    grid = solve_grid(weight, gram, bits=4, symmetric=True, method="learned")
    codes = solve(name, weight, gram, grid)
    for number, (part, own) in enumerate(parts):
        rows = slice(4 * number, 4 * number + 4)
        alone = make_grid(part, bits=4, symmetric=True, method="learned", importance=own)
        assert np.array_equal(grid.scale[rows], alone.scale)
        assert np.array_equal(codes[rows], solve(name, part, own, alone))


def test_a_grid_without_statistics_is_that_of_the_weight(layer):
    weight, _ = layer(4, 9)
    with_none = solve_grid(weight, None, bits=4, symmetric=False, group=3, method="hessian")
    assert np.array_equal(with_none.scale, make_grid(weight, bits=4, symmetric=False, group=3, method="mse").scale)


def test_the_best_rounding_has_the_least_loss(layer):
    weight, gram = layer(16, 40)
    grid = make_grid(weight, bits=4, symmetric=True, group=8)
    name, codes, least = best_rounding(weight, gram, grid, NAMES)
    each = {known: loss(weight, gram, grid.dequantize(solve(known, weight, gram, grid))) for known in NAMES}
    assert least == min(each.values()) == each[name]
    assert np.array_equal(codes, solve(name, weight, gram, grid))


def test_of_equal_roundings_the_first_is_best(layer):
    weight, gram = layer(4, 9, "zeros")
    grid = make_grid(weight, bits=4, symmetric=True)
    assert best_rounding(weight, gram, grid, ["quantease", "nearest"])[0] == "quantease"


def test_a_rounding_that_does_not_exist_is_a_bad_plan(layer):
    weight, gram = layer(1, 2)
    with pytest.raises(BadPlan, match="nearest, gptq, quantease, adaround, signround"):
        solve("magic", weight, gram, make_grid(weight, bits=4, symmetric=True))
