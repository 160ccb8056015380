"""Masks that were asked for: every weight that can be set to zero in the pattern is."""

from __future__ import annotations

from lwc.compiler.analysis.sites import site_of
from lwc.compiler.core.plan import Choice, LowRank, Masked, Plan, Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.pruning import collect_apart
from lwc.passes.solvers.masks import MAGNITUDE
from lwc.passes.sparsity.layer import layer_of

KIND = "mask"
UPDATE = "admm"


def masks_everywhere(numbers: Numbers, pattern: str) -> dict[Site, Choice]:
    """The mask at every layer with a weight of its own; weights left are solved again where statistics are known."""
    model = numbers.bench.model
    layers = [node for node in model.graph if node.name and not isinstance(layer_of(node, None), str)]
    stats = collect_apart(numbers, map(site_of, layers), model.by_name())
    updates = {node: UPDATE if _has_gram(stats.get(site_of(node))) else MAGNITUDE for node in layers}
    return {Site(node.name or "", node.op_type, KIND): Masked(pattern, update) for node, update in updates.items()}


def collect_for_masks(numbers: Numbers, plan: Plan) -> None:
    """The statistics that it takes to apply the plan's masks and low ranks."""
    model = numbers.bench.model
    nodes = model.by_name()
    solved = [site_of(nodes[site.name]) for site, choice in plan.choices.items() if needs_moments(choice)]
    collect_apart(numbers, solved, nodes)


def needs_moments(choice: Choice) -> bool:
    """Whether weights are solved with statistics of the layer's input."""
    return isinstance(choice, LowRank) or (isinstance(choice, Masked) and choice.update != MAGNITUDE)


def _has_gram(layer: LayerStats | None) -> bool:
    return layer is not None and layer.gram is not None
