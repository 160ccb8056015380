"""Residual blocks that may leave as a whole: what they take in a plan of formats, and what the model loses alone."""

from __future__ import annotations

from collections.abc import Callable

from lwc.compiler.analysis.blocks import Block, find_blocks
from lwc.compiler.core.plan import Dropped, Float, Plan, Site
from lwc.compiler.search.cost import PROFILED_RUNS, weight_bytes
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.space import Option

SAMPLES = 16  # that losses are measured on
MOST_LOSS = 0.3  # relative squared error beyond which a block is not offered: what others lose comes on top
MOST_BLOCKS = 48  # of a model with more the shortest ones are looked at: each takes a session


def block_options(
    bench: Workbench, base: Plan, each: Callable[[], None] = lambda: None
) -> dict[Site, tuple[Option, ...]]:
    """Blocks that the model can do without, priced on top of the base plan; the first option of each keeps it.

    each: called after every measurement
    """
    times = bench.profile(base, PROFILED_RUNS) or {}
    found: dict[Site, tuple[Option, ...]] = {}
    for block in sorted(find_blocks(bench.model.ir), key=lambda block: len(block.nodes))[:MOST_BLOCKS]:
        loss = bench.noise(Plan({block.site: Dropped()}), SAMPLES)
        each()
        if loss <= MOST_LOSS:
            ms = sum(times.get(name, 0.0) for name in block.nodes)
            gone = Option(Dropped(), -ms, -_bytes(bench, base, block), loss)
            found[block.site] = (Option(Float(), 0.0, 0, 0.0), gone)
    return found


def _bytes(bench: Workbench, base: Plan, block: Block) -> int:
    nodes, formats = bench.model.by_name(), {site.name: choice for site, choice in base.choices.items()}
    return sum(weight_bytes(nodes[name], formats.get(name, Float()), bench.target) for name in block.nodes)
