"""Grids agree with per-channel quantization, and losses with samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lwc.compiler.core.errors import BadPlan
from lwc.passes.solvers.grid import RANGES, Grid, code_limits, layer_loss, make_grid, row_losses, stacked
from lwc.passes.solvers.rounding import quantize_per_channel

WEIGHTS = arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=st.floats(-1e6, 1e6, width=32)
)  # fmt: skip


@settings(deadline=None)
@given(WEIGHTS, st.booleans(), st.booleans(), st.sampled_from(["minmax", "mse"]))
def test_int8_rows_are_as_per_channel_quantization_makes_them(weight, symmetric, reduce_range, method):
    grid = make_grid(weight, bits=8, symmetric=symmetric, method=method, reduce_range=reduce_range)
    codes, scale, zero = quantize_per_channel(
        weight, 0, symmetric=symmetric, reduce_range=reduce_range, scale_method=method
    )
    assert np.array_equal(grid.scale[:, 0], scale)
    assert np.array_equal(grid.zero[:, 0], zero)
    assert np.array_equal(grid.quantize(weight), codes)


def test_a_wide_int8_weight_is_as_per_channel_quantization_makes_it():
    weight = np.random.default_rng(0).standard_t(4, size=(64, 700)).astype(np.float32)
    for symmetric in (True, False):
        grid = make_grid(weight, bits=8, symmetric=symmetric, method="mse")
        codes, scale, _ = quantize_per_channel(weight, 0, symmetric=symmetric, scale_method="mse")
        assert np.array_equal(grid.scale[:, 0], scale)
        assert np.array_equal(grid.quantize(weight), codes)


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 9), st.sampled_from([name for name, _ in RANGES]))
def test_four_bit_codes_fit_their_types(weight, group, method):
    importance = np.arange(weight.shape[1], dtype=np.float64)
    for symmetric, least, most in ((True, -8, 7), (False, 0, 15)):
        grid = make_grid(
            weight, bits=4, symmetric=symmetric, group=group, method=method, importance=importance
        )  # fmt: skip
        codes = grid.quantize(weight)
        assert least <= codes.min(initial=0)
        assert codes.max(initial=0) <= most
        assert grid.zero.any() <= (not symmetric)
        assert grid.scale.shape == (len(weight), -(-weight.shape[1] // (group or weight.shape[1])))


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_sixteen_codes_lose_less_than_fifteen(method):
    weight = np.random.default_rng(1).normal(size=(200, 320)).astype(np.float32)
    sixteen = make_grid(weight, bits=4, symmetric=True, group=32, method=method)
    # What -7 .. 7 makes of the same blocks and shares.
    blocks = np.abs(weight.reshape(200, 10, 32)).max(axis=2)
    shares = np.linspace(1.0, 0.3, 71) if method == "mse" else [1.0]
    fifteen = np.full(blocks.shape, np.inf)
    for share in shares:
        grid = Grid((blocks * share / 7).astype(np.float32), np.zeros(blocks.shape, np.int32), 32, -7, 7)
        error = np.square(weight - grid.dequantize(grid.quantize(weight)))
        fifteen = np.minimum(fifteen, error.reshape(200, 10, 32).sum(axis=2))
    loss = np.square(weight - sixteen.dequantize(sixteen.quantize(weight))).sum()
    assert loss < 0.92 * fifteen.sum()


def test_limits_of_codes():
    assert code_limits(8, symmetric=True) == (-127, 127)
    assert code_limits(8, symmetric=True, reduce_range=True) == (-64, 64)
    assert code_limits(8, symmetric=False, reduce_range=True) == (0, 127)
    assert code_limits(4, symmetric=True, reduce_range=True) == (-8, 7)
    assert code_limits(4, symmetric=False) == (0, 15)


def test_a_method_that_does_not_exist_is_a_bad_plan():
    with pytest.raises(BadPlan, match="minmax, mse, hessian, learned"):
        make_grid(np.ones((1, 1), np.float32), bits=4, symmetric=True, method="magic")


def test_a_row_of_zeros_has_scale_one():
    for name, _ in RANGES:
        grid = make_grid(np.zeros((2, 4), np.float32), bits=4, symmetric=False, group=2, method=name)
        assert grid.scale.tolist() == [[1.0, 1.0]] * 2
        assert not grid.dequantize(grid.quantize(np.zeros((2, 4), np.float32))).any()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_an_empty_weight_has_a_grid(shape):
    weight = np.zeros(shape, np.float32)
    for name, _ in RANGES:
        grid = make_grid(weight, bits=4, symmetric=True, method=name, importance=np.eye(shape[1]))
        assert grid.dequantize(grid.quantize(weight)).shape == shape


def test_rows_of_a_grid_stack_to_the_grid():
    weight = np.random.default_rng(2).normal(size=(6, 8)).astype(np.float32)
    grid = make_grid(weight, bits=4, symmetric=False, group=4)
    again = stacked([grid.rows(slice(0, 2)), grid.rows(np.array([2, 3, 4, 5]))])
    assert np.array_equal(again.dequantize(again.quantize(weight)), grid.dequantize(grid.quantize(weight)))


def test_the_loss_is_the_mean_squared_change_of_the_output():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    weight = rng.normal(size=(4, 6)).astype(np.float32)
    rounded = np.round(weight)
    outputs = np.square(x @ (weight.astype(np.float64) - rounded).T).mean(axis=0)
    assert row_losses(weight, rounded, x.T @ x / 50) == pytest.approx(outputs)
    assert layer_loss(weight, rounded, x.T @ x / 50) == pytest.approx(outputs.sum())
