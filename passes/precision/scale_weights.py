"""Weights of channels with large activations are saved from rounding: AWQ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.stats import LayerStats
from lwc.passes.precision.scale_channels import Scaled, ScalingPass, scale_groups
from lwc.passes.precision.smoothing_groups import Group, activation_of, stacked_weight
from lwc.passes.solvers.grid import make_grid
from lwc.passes.solvers.scaling import Smoothing, awq_search


@dataclass(frozen=True)
class ScaleWeights(ScalingPass):
    """x' = x / s      W' = W diag(s)      s = E[x^2]^(a/2), a by the loss of rounding W' (AWQ, Lin et al. 2023)

    for weights that are going to be rounded to this format. x is made by a LayerNormalization or a linear layer, whose
    own constants take the division (see `rescale`), and read by MatMul, Gemm or 1x1 Conv. Differs from the paper: the
    root mean square stands for E|x|. Needs statistics with Gram matrix of a reader; a node is done once.
    Scope: main graph.

    sites: names of the nodes that make x, see `smoothing_groups.smoothable`
    bits, group, symmetric, weight_range: of the format, as of `plan.WeightOnly`
    restore: as of `SmoothActivations`
    """

    name: ClassVar[str] = "scale-weights"
    sites: tuple[str, ...] = ()
    bits: int = 4
    group: int = 32
    symmetric: bool = True
    weight_range: str = "minmax"
    restore: bool = False

    def scale(self, model: ir.Model, ctx: PassContext) -> Scaled:
        return scale_groups(model, self.sites, ctx.stats, self._smoothing, restore=self.restore)

    def _smoothing(self, group: Group, stats: Mapping[str, LayerStats]) -> Smoothing | str:
        """How one group is scaled; the reason when it cannot be."""
        activation, weight = activation_of(group, stats), stacked_weight(group)
        if isinstance(activation, str):
            return activation
        if weight is None or activation.gram is None:
            return "its readers are no matrices over its channels"
        magnitude = np.sqrt(np.diagonal(activation.gram))
        grid_of = partial(
            make_grid, bits=self.bits, symmetric=self.symmetric, group=self.group, method=self.weight_range
        )
        scale, _ = awq_search(weight, activation.gram, magnitude, grid_of)
        if (scale == 1).all():
            return "no scale that was tried loses less"
        return Smoothing(scale, np.zeros(len(scale)))
