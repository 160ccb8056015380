"""Codes are solved once, for scales as they are kept, with the Gram matrix of each group."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.weights import WeightView
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.plan import DynamicInt8, Site, StaticInt8, Weight4, Weight8
from lwc.compiler.core.stats import LayerStats
from lwc.passes.precision import solved
from lwc.passes.precision.solved import WeightMatrix, halved, solved_weight
from lwc.passes.solvers.grid import layer_loss

RNG = np.random.default_rng(5)


def matrix(*shape: int, sees: bool = True, factor: float = 1.0) -> WeightMatrix:
    view = WeightView(1, shape, len(shape) - 1, sees_activation=sees)
    tensor = ir.tensor(RNG.standard_normal(shape).astype(np.float32), name="w")
    return WeightMatrix(Site("layer", "MatMul", "weight"), tensor, view, factor)


def gram_of(size: int, groups: int = 0) -> LayerStats:
    inputs = RNG.standard_normal((max(groups, 1), 4 * size, size)) @ RNG.standard_normal((size, size))
    grams = np.einsum("gnc,gnd->gcd", inputs, inputs) / (4 * size)
    return LayerStats((None,), (None,), grams if groups else grams[0])


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_within_half_a_step_of_the_weight(bits: int, symmetric: bool) -> None:
    weight = matrix(12, 50)
    choice = {4: Weight4, 8: Weight8}[bits](group=16, symmetric=symmetric, weight_range="minmax")
    codes, grid = solved_weight(weight, choice, None, {})
    assert codes.dtype == (np.int8 if symmetric else np.uint8)
    assert grid.scale.shape == (12, 4)
    steps, _ = grid.spread(50)
    error = np.abs(grid.dequantize(codes.astype(np.int32)) - weight.numbers())
    assert (error <= steps * (0.5 if not symmetric else 0.501) + steps * 2**-10 * 2**bits).all()


def test_scales_of_weight_only_choices_fit_half_precision_and_those_of_int8_are_exact() -> None:
    weight = matrix(12, 50)
    _, kept = solved_weight(weight, Weight8(weight_range="minmax", group=0), None, {})
    np.testing.assert_array_equal(kept.scale, kept.scale.astype(np.float16).astype(np.float32))
    for choice in (StaticInt8(), DynamicInt8()):
        codes, grid = solved_weight(weight, choice, None, {})
        np.testing.assert_allclose(grid.scale[:, 0], np.abs(weight.numbers()).max(1) / 127, rtol=1e-6)
        assert np.abs(codes).max() == 127


def test_reduced_range_takes_one_bit_less() -> None:
    codes, _ = solved_weight(matrix(12, 50), StaticInt8(), None, {}, reduce_range=True)
    assert np.abs(codes).max() == 64


def test_factor_is_multiplied_in_before_rounding() -> None:
    weight = matrix(6, 20)
    scaled = WeightMatrix(weight.site, weight.tensor, weight.view, -4.0)
    _, grid = solved_weight(weight, StaticInt8(), None, {})
    _, larger = solved_weight(scaled, StaticInt8(), None, {})
    np.testing.assert_allclose(larger.scale, 4 * grid.scale, rtol=1e-6)


def test_a_large_table_is_solved_in_parts_to_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = matrix(37, 64, sees=False)
    whole, grid = solved_weight(weight, Weight4(symmetric=False), None, {})
    monkeypatch.setattr(solved, "_BLOCK", 5 * 64)
    parts, same = solved_weight(weight, Weight4(symmetric=False), None, {})
    np.testing.assert_array_equal(parts, whole)
    np.testing.assert_array_equal(same.scale, grid.scale)
    np.testing.assert_array_equal(same.zero, grid.zero)


@pytest.mark.parametrize("groups", [0, 3])
def test_rounding_on_the_gram_matrix_loses_less_in_every_group(groups: int) -> None:
    weight, stats = matrix(12, 32), gram_of(32, groups)
    losses: dict[str, Any] = {}
    assert stats.gram is not None
    grams = stats.gram if groups else stats.gram[None]
    for rounding in ("nearest", "gptq"):
        codes, grid = solved_weight(weight, Weight4(rounding=rounding), stats, {})
        found = np.split(grid.dequantize(codes.astype(np.int32)), len(grams))
        rows = np.split(weight.numbers(), len(grams))
        losses[rounding] = np.array([layer_loss(w, f, g) for w, f, g in zip(rows, found, grams, strict=True)])
    assert (losses["gptq"] < losses["nearest"]).all()


def test_matrix_that_does_not_see_the_activation_is_rounded_to_the_nearest() -> None:
    weight = matrix(12, 32, sees=False)
    nearest, _ = solved_weight(weight, Weight4(), None, {})
    found, _ = solved_weight(weight, Weight4(rounding="gptq"), gram_of(32), {})
    np.testing.assert_array_equal(found, nearest)


@pytest.mark.parametrize("stats", [None, LayerStats((None,), (None,))])
def test_missing_gram_matrix_is_a_bad_plan_that_names_the_site(stats: LayerStats | None) -> None:
    with pytest.raises(BadPlan, match="'layer' by 'gptq'"):
        solved_weight(matrix(12, 32), Weight4(rounding="gptq"), stats, {})


def test_unknown_rounding_is_a_bad_plan() -> None:
    with pytest.raises(BadPlan, match="guess"):
        solved_weight(matrix(12, 32), Weight4(rounding="guess"), gram_of(32), {})


def test_solved_weights_are_remembered_for_tensor_choice_and_statistics() -> None:
    memo: dict[Any, Any] = {}
    weight, stats = matrix(12, 32), gram_of(32)
    first, grid = solved_weight(weight, Weight4(rounding="gptq"), stats, memo)
    same = WeightMatrix(Site("other", "MatMul", "weight"), weight.tensor, weight.view)
    again, same_grid = solved_weight(same, Weight4(rounding="gptq"), stats, memo)
    np.testing.assert_array_equal(again, first)
    assert same_grid is grid
    assert len(memo) == 1
    solved_weight(weight, Weight4(rounding="gptq"), gram_of(32), memo)
    solved_weight(weight, Weight4(), stats, memo)
    solved_weight(matrix(12, 32), Weight4(), stats, memo)
    assert len(memo) == 4


def test_halves_are_nearest_and_never_clip_where_they_are_coarse() -> None:
    scales = np.array([1.0, 0.1, 6e-5, 1e-6, 1e-9, 70000.0], np.float32)
    kept = halved(scales)
    np.testing.assert_array_equal(kept, kept.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(kept[:2], scales[:2], rtol=2**-11)
    assert (kept[2:5] >= scales[2:5]).all()
    assert kept[5] == 65504.0
