from __future__ import annotations

import numpy as np
import pytest

from lwc.passes.solvers.grid import Grid, layer_loss
from lwc.passes.solvers.group_axis import choose_group_axis

GROUP = 8


def four_bits(rows: np.ndarray) -> Grid:
    """Symmetric, in groups along the columns."""
    blocks = np.abs(rows).reshape(len(rows), -1, GROUP).max(axis=2)
    return Grid((blocks / 7).astype(np.float32), np.zeros(blocks.shape, np.int32), GROUP, -7, 7)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def brute_force(weight: np.ndarray, gram: np.ndarray) -> dict[str, float]:
    grid, turned = four_bits(weight), four_bits(np.ascontiguousarray(weight.T))
    along_outputs = turned.dequantize(turned.quantize(weight.T)).T
    return {
        "input": layer_loss(weight, grid.dequantize(grid.quantize(weight)), gram),
        "output": layer_loss(weight, along_outputs, gram),
    }


@pytest.mark.parametrize("channels_or_outputs", ["input", "output"])
def test_the_axis_is_the_one_that_keeps_outliers_to_themselves(channels_or_outputs: str) -> None:
    weight = drawn(16, 24)
    if channels_or_outputs == "input":
        weight[5] = 30 * np.sign(weight[5])  # exact in all groups, and in the way of all but its own
    else:
        weight[:, 5] = 30 * np.sign(weight[:, 5])
    gram = np.eye(24)
    chosen = choose_group_axis(weight, gram, four_bits)
    wanted = brute_force(weight, gram)
    assert chosen.axis == channels_or_outputs == min(wanted, key=lambda axis: wanted[axis])
    assert chosen.losses == pytest.approx(wanted)
    assert layer_loss(weight, chosen.rounded, gram) == pytest.approx(wanted[chosen.axis])
