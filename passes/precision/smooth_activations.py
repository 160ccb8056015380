"""Outliers of activation channels go into the weights that read them: SmoothQuant, with shift, and RepQ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.stats import LayerStats
from lwc.passes.precision.rescale import takes_shift
from lwc.passes.precision.scale_channels import Scaled, ScalingPass, scale_groups
from lwc.passes.precision.smoothing_groups import Activation, Group, activation_of, largest_weights, stacked_weight
from lwc.passes.solvers.scaling import (
    Smoothing,
    common_tails,
    outlier_suppression,
    repq,
    smooth_quant,
    smooth_search,
)

Method = Literal["outliers", "search", "alpha", "repq"]

# Ranges per channel that fewer positions show do not hold on new data (16 positions of ppocr-cls's gates: one layer
# from 34 dB to 15 dB).
_LEAST_POSITIONS = 256


@dataclass(frozen=True)
class SmoothActivations(ScalingPass):
    """x' = (x - z) / s      W' = W diag(s)      b' = b + W z      so that  W' x' + b' = W x + b

    for x made by a LayerNormalization or a linear layer, whose own constants take the division (see `rescale`), and
    read by linear layers with constant weights, directly or through operators that channels pass (see `channels`).
    A shift only where all readers have a bias to take it, no padding, and nothing but moves of values lies between.
    s and z from least and greatest values per channel of `ctx.stats` (SmoothQuant, Xiao et al. 2022; Outlier
    Suppression+, Wei et al. 2023; RepQ-ViT, Li et al. 2023). Statistics of x are stale afterwards, so a node is done
    once. Scope: main graph.

    sites: names of the nodes that make x, see `smoothable`
    method: 'outliers': `outlier_suppression` within `common_tails`;  'search': the alpha of `smooth_search`; both where
        all readers are matrices over exactly these channels
        'alpha': SmoothQuant's formula with `alpha`;  'repq': one scale per tensor for what was one per channel
    shift: move the middle of each channel to zero;
    restore: other readers get x' s + z from a Mul and an Add of their own (residual connections behind a
        normalization need it), instead of being a reason to skip
    """

    name: ClassVar[str] = "smooth-activations"
    sites: tuple[str, ...] = ()
    method: Method = "outliers"
    alpha: float = 0.5
    shift: bool = True
    restore: bool = False

    def scale(self, model: ir.Model, ctx: PassContext) -> Scaled:
        return scale_groups(model, self.sites, ctx.stats, self._smoothing, restore=self.restore)

    def _smoothing(self, group: Group, stats: Mapping[str, LayerStats]) -> Smoothing | str:
        """How one group is smoothed; the reason when it cannot be."""
        activation = activation_of(group, stats)
        if isinstance(activation, str):
            return activation
        if activation.positions < _LEAST_POSITIONS:
            return f"only {activation.positions} positions were seen; {_LEAST_POSITIONS} are needed"
        return self._choose(group, activation)

    def _choose(self, group: Group, at: Activation) -> Smoothing | str:
        """The smoothing, or why this method has none here."""
        shift = self.shift and group.source.takes_shift and all(takes_shift(reader) for reader in group.readers)
        if self.method == "repq":
            found = repq(at.low, at.high)
            return found if shift else Smoothing(found.scale, np.zeros(len(found.scale)))
        if self.method == "alpha":
            return smooth_quant(at.low, at.high, largest_weights(group)[None], self.alpha, shift=shift)
        weight = stacked_weight(group)
        if weight is None or at.gram is None or at.deviation is None:
            return "its readers are no matrices over its channels: only methods without a search apply"
        if self.method == "search":
            found = smooth_search(at.low, at.high, at.mean, weight, at.gram, shift=shift)
        else:
            low, high = common_tails(at.low, at.high, at.mean, at.deviation)
            found = outlier_suppression(low, high, at.mean, weight, at.gram, shift=shift)
        return found if found.does_something() else "no scale that was tried loses less"
