"""Leave residual blocks out, as the plan says.

    y = x + f(x)        y = x

What only f needed goes too. Scope: main graph, see analysis.blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.analysis.blocks import find_blocks
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Dropped, Site
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.edit import redirect, remove
from lwc.passes.sparsity.at_sites import at_sites


@dataclass(frozen=True)
class DropBlocks(Pass):
    """Applies Dropped at the plan's sites."""

    name: ClassVar[str] = "drop-blocks"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        wanted = list(ctx.plan.sites(Dropped))
        if not wanted:
            return Outcome()
        blocks = {block.site.name: block for block in find_blocks(model)}
        nodes = {node.name: node for node in model.graph}

        def change(site: Site, choice: Dropped) -> str:
            block = blocks.get(site.name)
            if block is None:
                return "no residual block ends here"
            taken = _bypass(nodes[site.name], block.entry)
            return "" if taken else "its result is an output of the model, and so is what it starts from"

        outcome = at_sites(wanted, change)
        if outcome.changed:
            RemoveUnused().rewrite(model, ctx)
        return outcome


def _bypass(add: ir.Node, entry: int) -> bool:
    """Let all read the block's entry instead of its result; False when an output of the model forbids it."""
    x = add.inputs[entry]
    assert x is not None
    if not redirect(add.outputs[0], x):
        return False
    remove(add)
    return True
