"""Leave residual blocks out, as the plan says.

    y = x + f(x)        y = x

What only f needed goes too. Scope: main graph, see analysis.blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.analysis.blocks import find_blocks
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Dropped, Site
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.edit import redirect, remove


@dataclass(frozen=True)
class DropBlocks(Pass):
    """Applies Dropped at the plan's sites."""

    name: ClassVar[str] = "drop-blocks"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        sites = [site for site, _ in ctx.plan.sites(Dropped)]
        if not sites:
            return Outcome()
        blocks = {block.site.name: block for block in find_blocks(model)}
        nodes = {node.name: node for node in model.graph}
        changed: list[Site] = []
        skipped: list[Skip] = []
        for site in sites:
            block = blocks.get(site.name)
            if block is None:
                skipped.append(Skip(site, "no residual block ends here"))
            elif not _bypass(nodes[site.name], block.entry):
                skipped.append(Skip(site, "its result is an output of the model, and so is what it starts from"))
            else:
                changed.append(site)
        if changed:
            RemoveUnused().rewrite(model, ctx)
        return Outcome(tuple(changed), tuple(skipped))


def _bypass(add: ir.Node, entry: int) -> bool:
    """Let all read the block's entry instead of its result; False when an output of the model forbids it."""
    x = add.inputs[entry]
    assert x is not None
    if not redirect(add.outputs[0], x):
        return False
    remove(add)
    return True
