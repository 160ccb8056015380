from __future__ import annotations

import numpy as np
import pytest

from lwc.passes.solvers.compensation import low_rank_correction
from lwc.passes.solvers.grid import layer_loss
from lwc.passes.solvers.low_rank import Spectrum, largest_rank


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_losses_are_those_of_the_factors(layer, shape) -> None:
    weight, gram = layer(*shape)
    spectrum = Spectrum.of(weight, gram)
    assert len(spectrum.losses) == min(shape) + 1
    for rank, loss in enumerate(spectrum.losses):
        a, b = spectrum.factors(rank)
        assert (a.shape, b.shape) == ((shape[0], rank), (rank, shape[1]))
        assert layer_loss(weight, a @ b, gram) == pytest.approx(loss, abs=1e-9 * spectrum.losses[0])


def test_no_other_factors_of_the_rank_lose_less(layer) -> None:
    weight, gram = layer(6, 8)
    spectrum = Spectrum.of(weight, gram)
    a, b = spectrum.factors(3)
    ours = layer_loss(weight, a @ b, gram)
    u, d, v = np.linalg.svd(weight.astype(float), full_matrices=False)
    assert ours < layer_loss(weight, u[:, :3] * d[:3] @ v[:3], gram)
    rng = np.random.default_rng(0)
    for _ in range(50):  # around the optimum
        near = (a + 1e-3 * rng.normal(size=a.shape)) @ (b + 1e-3 * rng.normal(size=b.shape))
        assert ours <= layer_loss(weight, near, gram)


def test_it_is_the_low_rank_correction_of_a_weight_of_zeros(layer) -> None:
    weight, gram = layer(6, 8)
    a, b = Spectrum.of(weight, gram).factors(2)
    left, right = low_rank_correction(weight, gram, 2)
    np.testing.assert_allclose(a @ b, left @ right, atol=1e-9)


@pytest.mark.parametrize("kind", ["zeros", "one sample", "dead inputs", "equal inputs", "huge", "tiny", "not finite"])
def test_degenerate_moments_give_finite_factors(layer, kind) -> None:
    weight, gram = layer(5, 8, kind)
    spectrum = Spectrum.of(weight, gram)
    assert all(np.isfinite(part).all() for part in (*spectrum.factors(3), spectrum.losses))
    assert (np.diff(spectrum.losses) <= 0).all()


def test_inputs_of_a_low_dimension_need_a_low_rank(layer) -> None:
    weight, _ = layer(8, 8)
    x = np.random.default_rng(1).normal(size=(100, 3)) @ np.random.default_rng(2).normal(size=(3, 8))
    assert Spectrum.of(weight, x.T @ x / 100).rank_within(1e-6) == 3
    assert Spectrum.of(weight).rank_within(1e-6) == 8
    assert Spectrum.of(weight).rank_within(1.0) == 0


@pytest.mark.parametrize(("outputs", "inputs"), [(8, 8), (1, 9), (3, 5), (512, 64), (2, 2), (1, 1)])
def test_the_largest_rank_is_the_last_that_has_fewer_weights(outputs: int, inputs: int) -> None:
    rank = largest_rank(outputs, inputs)
    assert rank == 0 or rank * (outputs + inputs) < outputs * inputs
    assert (rank + 1) * (outputs + inputs) >= outputs * inputs
