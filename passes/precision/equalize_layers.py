"""Cross-layer equalization: neighbouring layers share out the ranges of the channels between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.pass_ import Outcome, PassContext, Skip
from lwc.compiler.core.plan import Scaling, Site
from lwc.passes.edit import Names, site
from lwc.passes.fuse.linear import linear_of
from lwc.passes.precision.rescale import magnitudes, per_channel
from lwc.passes.precision.scale_channels import Scaled, ScalingPass, scale_group, scaling_of, sites_of
from lwc.passes.precision.smoothing_groups import Group, group_of
from lwc.passes.solvers.scaling import Smoothing, equalizing_scale

# Sweeps over all pairs; chains of layers settle in far fewer.
_SWEEPS = 50
# Scales nearer to one than this are left out.
_LEAST_STEP = 0.01


@dataclass(frozen=True)
class EqualizeLayers(ScalingPass):
    """W1' = S^-1 W1      b1' = S^-1 b1      W2' = W2 S      S = diag(sqrt(r1 / r2)), r the ranges of each channel

    between Conv, ConvTranspose, Gemm or MatMul (with its bias), grouped or not, through positive-homogeneous operators
    (see `channels`) (Nagel et al. 2019, section 4.1). A layer with several readers is equalized against the largest
    range among them. Pairs are swept until none changes, so chains come out equal, depthwise convolutions in the
    middle too. Needs constant weights, and readers that are all such layers. Data-free. Scope: main graph.

    sites: names of the first layers of the pairs, see `equalizable`
    powers_of_two: scales are the nearest powers of two, so that the float model computes the very same bits (unless
        numbers leave the normal range); ranges are then equal within a factor of two
    """

    name: ClassVar[str] = "equalize-layers"
    sites: tuple[str, ...] = ()
    powers_of_two: bool = True

    def scale(self, model: ir.Model, ctx: PassContext) -> Scaled:
        pairs, skipped = _pairs_at(model.graph, self.sites)
        _sweep(pairs, self.powers_of_two)
        names, changed, scalings = Names(model), list[Site](), list[Scaling]()
        for pair in pairs:
            smoothing = Smoothing(pair.scale, np.zeros(len(pair.scale)))
            if not smoothing.does_something():
                continue
            reason = scale_group(pair.group, smoothing, names)
            if reason:
                skipped.append(Skip(pair.group.site, reason))
            else:
                scalings.append(scaling_of(pair.group, smoothing))
                changed += sites_of(pair.group)
        return Scaled(tuple(scalings), Outcome(tuple(dict.fromkeys(changed)), tuple(skipped)))


def equalizable(model: ir.Model) -> tuple[str, ...]:
    """Names of the layers in front of others that `EqualizeLayers` can equalize them with, in order."""
    return tuple(node.name or "" for node in model.graph if isinstance(_pair_of(node), _Pair))


@dataclass(eq=False)
class _Pair:
    """A layer and those that read its channels; scale: [channels] what the first is divided by."""

    group: Group
    scale: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.scale = np.ones(self.group.source.channels)


def _pairs_at(graph: ir.Graph, sites: tuple[str, ...]) -> tuple[list[_Pair], list[Skip]]:
    pairs: list[_Pair] = []
    skipped: list[Skip] = []
    wanted = frozenset(sites)
    for node in graph:
        if node.name in wanted:
            pair = _pair_of(node)
            if isinstance(pair, str):
                skipped.append(Skip(site(node), pair))
            else:
                pairs.append(pair)
    return pairs, skipped


def _pair_of(node: ir.Node) -> _Pair | str:
    """The pair that starts at a node, or why there is none."""
    group = group_of(node, restore=False) if linear_of(node) is not None else ""
    if not isinstance(group, Group):
        return group or f"{node.op_type} is no linear layer"
    layers = (linear_of(each) for each in (node, *(reader.node for reader in group.readers)))
    finite = all(np.isfinite(layer.weight).all() for layer in layers if layer is not None)
    return _Pair(group) if finite else "a weight holds NaN or infinity"


def _sweep(pairs: list[_Pair], powers_of_two: bool) -> None:
    """Find the scales of all pairs together: what one does to a layer, the next one sees."""
    groups = [pair.group for pair in pairs]
    nodes = {node for group in groups for node in (group.source.node, *(reader.node for reader in group.readers))}
    sizes = {node: magnitudes(layer) for node in nodes if (layer := linear_of(node)) is not None}
    for _ in range(_SWEEPS):
        moved = False
        for pair in pairs:
            step = _step(pair, sizes, powers_of_two)
            if (step != 1).any():
                moved = True
                pair.scale *= step
                _rescale(pair, step, sizes)
        if not moved:
            return


def _step(pair: _Pair, sizes: dict[ir.Node, NDArray[np.float64]], powers_of_two: bool) -> NDArray[np.float64]:
    before = sizes[pair.group.source.node].max(axis=2).reshape(-1)
    after = np.zeros(len(before))
    for reader in pair.group.readers:
        read = per_channel(reader, sizes[reader.node].max(axis=1).reshape(-1), len(before))
        after = np.maximum(after, read)
    step = equalizing_scale(before, after)
    if powers_of_two:
        return np.exp2(np.rint(np.log2(step)))
    return step if (np.abs(step - 1) > _LEAST_STEP).any() else np.ones(len(step))


def _rescale(pair: _Pair, step: NDArray[np.float64], sizes: dict[ir.Node, NDArray[np.float64]]) -> None:
    own = sizes[pair.group.source.node]
    own /= step.reshape(len(own), -1, 1)
    for reader in pair.group.readers:
        read = sizes[reader.node]
        read *= step[reader.channels].reshape(len(read), 1, -1)
