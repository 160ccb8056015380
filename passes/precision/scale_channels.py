"""Scales and shifts of channels are put into a graph: those that a plan holds, and those that passes find."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Scaling, Site
from lwc.compiler.core.stats import LayerStats
from lwc.passes.edit import Names, add_initializer, new_node, site
from lwc.passes.precision.channels import Use
from lwc.passes.precision.rescale import Source, edits_of_reader, edits_of_source, takes_shift
from lwc.passes.precision.smoothing_groups import Group, group_of
from lwc.passes.solvers.scaling import Smoothing

# Marks a node whose channels were scaled: the statistics that was done by say nothing about them any more.
SCALED_KEY = "lwc.scaled"


@dataclass(frozen=True)
class ScaleChannels(Pass):
    """x' = (x - z) / s      W' = W diag(s)      b' = b + W z      so that  W' x' + b' = W x + b

    at the nodes that make x, with the s and z of `ctx.plan.scalings`, in their order. Other readers get x' s + z from a
    Mul and an Add of their own. A node that was scaled before this run stays. Scope: main graph.
    """

    name: ClassVar[str] = "scale-channels"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        nodes = {node.name: node for node in model.graph if SCALED_KEY not in node.metadata_props}
        names, changed, skipped = Names(model), list[Site](), list[Skip]()
        for scaling in ctx.plan.scalings:
            node = nodes.get(scaling.site.name)
            if node is None:
                continue
            group = group_of(node, restore=True)
            reason = group if isinstance(group, str) else _misfit(group, scaling)
            if isinstance(group, Group) and not reason:
                reason = scale_group(group, smoothing_of(scaling), names)
            if isinstance(group, str) or reason:
                skipped.append(Skip(scaling.site, reason))
            else:
                node.metadata_props[SCALED_KEY] = "1"
                changed += sites_of(group)
        return Outcome(tuple(dict.fromkeys(changed)), tuple(skipped))


def _misfit(group: Group, scaling: Scaling) -> str:
    """Why a scaling is not of this group; empty when it is."""
    channels = group.source.channels
    if len(scaling.scale) != channels or len(scaling.shift) not in (0, channels):
        return f"it has {channels} channels, the scaling {len(scaling.scale)}"
    if not all(0 < factor < np.inf for factor in scaling.scale):
        return "a scale is not positive"
    shifts = group.source.takes_shift and all(takes_shift(reader) for reader in group.readers)
    return "" if shifts or not any(scaling.shift) else "a layer that reads it takes no shift"


@dataclass(frozen=True)
class Scaled:
    """What was scaled, in order, and what became of the sites."""

    scalings: tuple[Scaling, ...]
    outcome: Outcome


@dataclass(frozen=True)
class ScalingPass(Pass):
    """A pass that finds scales and shifts and puts them into the graph."""

    @abstractmethod
    def scale(self, model: ir.Model, ctx: PassContext) -> Scaled:
        """Rewrite `model` in place; the scalings with which `ScaleChannels` does the same to another fork of it."""

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        return self.scale(model, ctx).outcome


def scale_groups(
    model: ir.Model,
    sites: Collection[str],
    stats: Mapping[Site, LayerStats],
    choose: Callable[[Group, Mapping[str, LayerStats]], Smoothing | str],
    *,
    restore: bool,
) -> Scaled:
    """Scale the groups of these nodes one by one, but none twice. choose: how, or why a group cannot be scaled"""
    by_name = {known.name: layer for known, layer in stats.items()}
    names, changed, skipped, scalings = Names(model), list[Site](), list[Skip](), list[Scaling]()
    wanted = frozenset(sites)
    for node in [n for n in model.graph if n.name in wanted and SCALED_KEY not in n.metadata_props]:
        group = group_of(node, restore)
        chosen = group if isinstance(group, str) else choose(group, by_name)
        if isinstance(group, Group) and isinstance(chosen, Smoothing):
            reason = scale_group(group, chosen, names)
            if not reason:
                node.metadata_props[SCALED_KEY] = "1"
                scalings.append(scaling_of(group, chosen))
                changed += sites_of(group)
                continue
            chosen = reason
        skipped.append(Skip(site(node), str(chosen)))
    return Scaled(tuple(scalings), Outcome(tuple(dict.fromkeys(changed)), tuple(skipped)))


def smoothing_of(scaling: Scaling) -> Smoothing:
    """The numbers of a plan's scaling as arrays."""
    scale = np.array(scaling.scale, np.float64)
    return Smoothing(scale, np.array(scaling.shift, np.float64) if scaling.shift else np.zeros(len(scale)))


def scaling_of(group: Group, smoothing: Smoothing) -> Scaling:
    """What a plan keeps of it."""
    shift = smoothing.shift.tolist() if smoothing.shift.any() else ()
    return Scaling(group.site, tuple(smoothing.scale.tolist()), tuple(shift))


def sites_of(group: Group) -> tuple[Site, ...]:
    """The nodes that scaling a group changes."""
    return (group.site, *(site(reader.node) for reader in group.readers))


def scale_group(group: Group, smoothing: Smoothing, names: Names) -> str:
    """Scale and shift the channels of one group; the reason when it cannot be."""
    edits = edits_of_source(group.source, smoothing)
    edits += [edit for reader in group.readers for edit in edits_of_reader(reader, smoothing)]
    if not all(edit.fits() for edit in edits):
        return "the weights would overflow their type"
    for edit in edits:
        edit.apply(names)
    if group.others:
        _restore(group.source, smoothing, group.others, names)
    return ""


def _restore(source: Source, smoothing: Smoothing, uses: Sequence[Use], names: Names) -> None:
    """Give `uses` the value as it was: x' s, and + z where there is a shift."""
    value, maker = source.value, source.value.producer()
    assert maker is not None
    assert maker.graph is not None
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    parts = [("Mul", smoothing.scale)] + ([("Add", smoothing.shift)] if smoothing.shift.any() else [])
    restored, after = value, maker
    for op, numbers in parts:
        name = names.claim(f"{value.name}.{'unscaled' if op == 'Mul' else 'restored'}")
        array = numbers.reshape(source.index.shape).astype(dtype)
        operand = add_initializer(maker.graph, names.claim(f"{name}.factor" if op == "Mul" else f"{name}.shift"), array)
        node = new_node(op, [restored, operand])
        node.name, node.outputs[0].name = name, name
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        maker.graph.insert_after(after, node)
        restored, after = node.outputs[0], node
    for use in uses:
        use.node.replace_input_with(use.position, restored)
