"""Remove channels with everything coupled to them, as the plan says.

    W [out, in], x [.., in]        W[:, kept], x[.., kept]        and what makes x makes only what is kept

Constants are sliced, and sizes that are written in the model follow: shapes of Reshape and Expand, runs of Slice, parts
of Split, groups and heads in attributes. A shape computed at run time is overwritten where it is of a pruned axis
(Where), and Shape keeps saying the sizes of the original, so that arithmetic with sizes stays what it was.
What a choice's compensation does to the readers of what is left is in compensate.py.
Scope: main graph, see analysis.channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from lwc.compiler.analysis.channels import Channels, find_channels
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Pruned, Site
from lwc.passes.edit import Names
from lwc.passes.sparsity.compensate import compensate
from lwc.passes.sparsity.shrink import shrink

PRUNED_KEY = "lwc.pruned"  # in the metadata of a node: the sites pruned there, which have other channels since


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Apply every choice `Pruned` of the plan, all at once. At least one channel of a group stays."""

    name: ClassVar[str] = "prune-channels"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        nodes = {node.name or "": node for node in model.graph}
        wanted = {
            site: choice
            for site, choice in ctx.plan.sites(Pruned)
            if choice.removed and site.name not in _pruned_at(nodes, site)
        }
        if not wanted:
            return Outcome()
        channels = find_channels(model)
        reasons = {site: _refused(channels, site, choice) for site, choice in wanted.items()}
        skipped = [Skip(site, reason) for site, reason in reasons.items() if reason]
        chosen = {site: choice for site, choice in wanted.items() if not reasons[site]}
        if chosen:
            names = Names(model)
            shrunk = channels.without({site: choice.removed for site, choice in chosen.items()})
            skipped += compensate(nodes, channels, chosen, shrunk, ctx, names)
            shrink(model, shrunk, names)
            _mark(nodes, chosen)
        return Outcome(tuple(chosen), tuple(skipped))


def _node_of(nodes: Mapping[str, ir.Node], site: Site) -> ir.Node | None:
    return nodes.get(site.name) or nodes.get(site.name.rpartition("#")[0])


def _pruned_at(nodes: Mapping[str, ir.Node], site: Site) -> list[str]:
    node = _node_of(nodes, site)
    return [] if node is None else node.metadata_props.get(PRUNED_KEY, "").split("\n")


def _mark(nodes: Mapping[str, ir.Node], chosen: Mapping[Site, Any]) -> None:
    for site in chosen:
        node = _node_of(nodes, site)
        assert node is not None
        node.metadata_props[PRUNED_KEY] = "\n".join(filter(None, (*_pruned_at(nodes, site), site.name)))


def _refused(channels: Channels, site: Site, choice: Pruned) -> str:
    """Why the choice cannot be applied; empty when it can."""
    group = channels.at(site)
    if group is None:
        return "no channels that can leave begin here"
    removed = set(choice.removed)
    if min(removed) < 0 or max(removed) >= group.size:
        return f"it has channels 0 to {group.size - 1}"
    return "at least one channel has to stay" if len(removed) == group.size else ""
