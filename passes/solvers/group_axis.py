"""Along which axis the weights of a group lie: AdaDim (Heo et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.grid import Floats, Grid, Weights, layer_loss

Axis = Literal["input", "output"]


@dataclass(frozen=True)
class GroupAxis:
    """axis: along which a group's weights lie;  rounded: [out, in] by it;  losses: layer loss of each axis

    'input': the usual groups, of consecutive inputs of one output
    'output': groups of consecutive outputs of one input, so that an input channel with outliers spoils only itself
    """

    axis: Axis
    rounded: Weights
    losses: dict[Axis, float]


def choose_group_axis(weight: Weights, gram: Floats, grid_of: Callable[[Weights], Grid]) -> GroupAxis:
    """Round along both axes to the nearest and keep the one with the smaller layer loss ('input' when equal).

    weight: [out, in];  gram: [in, in];  grid_of: the grid of a matrix whose rows hold the groups
    """
    rounded: dict[Axis, Weights] = {
        "input": _nearest(weight, grid_of),
        "output": np.ascontiguousarray(_nearest(np.ascontiguousarray(weight.T), grid_of).T),
    }
    losses = {axis: layer_loss(weight, matrix, gram) for axis, matrix in rounded.items()}
    axis: Axis = "input" if losses["input"] <= losses["output"] else "output"
    return GroupAxis(axis, rounded[axis], losses)


def _nearest(rows: NDArray[np.float32], grid_of: Callable[[Weights], Grid]) -> Weights:
    grid = grid_of(rows)
    return grid.dequantize(grid.quantize(rows))
