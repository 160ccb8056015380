"""Static int8: QuantizeLinear and DequantizeLinear around the plan's sites, as integer kernels want them.

    x ~ s (q - z)      q = clip(rint(x / s) + z)      weights: int8 per channel, z = 0;  bias: int32 of scale s_x s_w

A value is quantized once, where it is made, and dequantized in front of each reader, so that every operator stands
between its own pairs: that is what runtimes fuse into one integer kernel. A swallowed Relu or Clip vanishes into the
limits of its range. Values nobody reads as integers stay float. Needs opset 13 (per-channel DequantizeLinear), and 21
where a site has activations of 16 bits: what it reads and writes is then made in 16 bits for all readers.

Scope: sites of the main graph; a subgraph that reads an integer value gets it dequantized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.errors import BadPlan, UnsupportedOpset
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Site, StaticInt8
from lwc.passes.edit import opset
from lwc.passes.precision.formats import Formats, decide_formats
from lwc.passes.precision.rewrite import Rewriter

Means = NDArray[np.float64]

CORRECTED = "corrected"
QDQ_OPSET = 13
WIDE_OPSET = 21  # 16-bit codes


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Applies StaticInt8 at the plan's sites with the plan's ranges."""

    name: ClassVar[str] = "quantize_static"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        chosen = dict(ctx.plan.sites(StaticInt8))
        if not chosen:
            return Outcome()
        needed = WIDE_OPSET if any(choice.activation_bits > 8 for choice in chosen.values()) else QDQ_OPSET
        if opset(model) < needed:
            raise UnsupportedOpset(f"The model has opset {opset(model)}; int8 needs {needed}.", "Raise it first.")
        formats, refused = decide_formats(model.graph, chosen, ctx.plan.ranges, ctx.target)
        methods = {site.name: choice.weight_range for site, choice in chosen.items()}
        Rewriter(model, formats, methods, _means_of_inputs(formats, chosen, ctx), ctx.target).run()
        by_name = {site.name: site for site in chosen}
        changed = tuple(by_name[node.name or ""] for node in formats.units)
        skipped = tuple(Skip(by_name[site.name], reason) for site, reason in refused.items())
        return Outcome(changed, skipped)


def _means_of_inputs(formats: Formats, chosen: Mapping[Site, StaticInt8], ctx: PassContext) -> dict[str, Means]:
    """E[x] per channel by node name, for layers with a bias that is corrected. Raises BadPlan where it is not known."""
    sites = {site.name: site for site, choice in chosen.items() if choice.bias == CORRECTED}
    means: dict[str, Means] = {}
    for node, unit in formats.units.items():
        site = sites.get(node.name or "")
        if site is None or unit.weight is None or unit.bias is None:
            continue
        stats = ctx.stats.get(site)
        first = stats.inputs[0] if stats is not None else None
        if first is None or first.channel_mean is None:
            raise BadPlan(
                f"The plan corrects the bias of '{site.name}', and the mean of its input is not known.",
                "Give the statistics of this site with channels, or choose the bias 'kept'.",
            )
        means[site.name] = first.channel_mean
    return means
