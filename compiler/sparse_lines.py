"""What the report says of sites where something may leave the model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import onnx_ir as ir

from lwc.compiler.analysis.blocks import Block, find_blocks
from lwc.compiler.analysis.channels import Group, find_channels
from lwc.compiler.analysis.group_sizes import macs_of, parameters_of
from lwc.compiler.analysis.sites import macs, parameters
from lwc.compiler.analysis.weights import weight_views
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Dropped, Float, LowRank, Masked, Pruned, Site
from lwc.compiler.search.space import Space
from lwc.passes.solvers.low_rank import saved_share

WHOLE = "whole"
NO_SPEED_UP = "no speed-up on this target"  # of masks: its kernels multiply zeros as they do other numbers


class SparseLines:
    """Lines about one cleaned model, with the sizes of a sample."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @cached_property
    def _groups(self) -> Mapping[Site, Group]:
        return {group.site: group for group in find_channels(self._model.ir).groups}

    @cached_property
    def _blocks(self) -> Mapping[Site, Block]:
        return {block.site: block for block in find_blocks(self._model.ir)}

    def choice(self, site: Site, choice: Choice) -> str:
        """The choice in words."""
        group = self._groups.get(site)
        if isinstance(choice, Pruned) and group is not None:
            return f"pruned {len(choice.removed)} of {group.size}"
        if isinstance(choice, Masked):
            return f"masked {choice.pattern}"
        if isinstance(choice, LowRank):
            return f"rank {choice.rank}"
        return WHOLE if isinstance(choice, Float) else choice.name

    def parameters(self, site: Site, choice: Choice) -> int:
        """Numbers that left the constants."""
        nodes, group = self._model.by_name(), self._groups.get(site)
        if isinstance(choice, Dropped) and site in self._blocks:
            return sum(parameters(nodes[name]) for name in self._blocks[site].nodes)
        if isinstance(choice, LowRank):
            return round(_fewer(nodes[site.name], choice) * parameters(nodes[site.name]))
        return 0 if group is None else round(_share(group, choice) * parameters_of(group, nodes))

    def macs(self, site: Site, choice: Choice) -> int:
        """Multiply-accumulates that left."""
        nodes, group = self._model.by_name(), self._groups.get(site)
        if isinstance(choice, Dropped) and site in self._blocks:
            return sum(macs(nodes[name]) for name in self._blocks[site].nodes)
        if isinstance(choice, LowRank):
            return round(_fewer(nodes[site.name], choice) * macs(nodes[site.name]))
        return 0 if group is None else round(_share(group, choice) * macs_of(group, nodes))

    def reason(self, space: Space, site: Site, choice: Choice) -> str:
        """Why the site has this choice."""
        options = space.options.get(site, ())
        if len(options) < 2:
            why = "asked for" if options else "the plan says so"
            return f"{why}; {NO_SPEED_UP}" if isinstance(choice, Masked) else why
        if not isinstance(choice, Float):
            return f"saves {-space.option(site, choice).ms:.3f} ms"
        best = min(options[1:], key=lambda option: option.ms)
        return f"{self.choice(site, best.choice)} costs accuracy that its {-best.ms:.3f} ms are not worth"


def _share(group: Group, choice: Choice) -> float:
    return len(choice.removed) / group.size if isinstance(choice, Pruned) else 0.0


def _fewer(node: ir.Node, choice: LowRank) -> float:
    """The share of a layer's weights that its factors do without."""
    view = next(view for view in weight_views(node) if view.sees_activation)
    return saved_share(view.rows, view.columns, choice.rank)
