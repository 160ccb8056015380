"""Layers that may become two of low rank: what that saves on the clock, and what the model loses by each alone.

Rank r pays in weights where r (in + out) < in out; on the clock later, for two kernels start where one did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

import onnx_ir as ir

from lwc.compiler.analysis.sites import macs, site_of, unrounded
from lwc.compiler.core.plan import Choice, Float, LowRank, Plan, Site
from lwc.compiler.search.cost import weight_bytes
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.group_costs import Savings, measured_savings
from lwc.compiler.search.ledger import Objective
from lwc.compiler.search.masking import collect_for_masks
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.pruning import LEAST_SAVING, compared_on
from lwc.compiler.search.space import Option
from lwc.passes.solvers.low_rank import largest_rank, saved_share
from lwc.passes.sparsity.factor_weights import spectrum_of, whole_reason
from lwc.passes.sparsity.layer import Layer, layer_of

KIND = "rank"
SHARES = (3 / 4, 1 / 2, 1 / 4)  # of the largest rank with fewer weights, that are tried
LEAST_WORK = 0.02  # of the model's multiply-adds, that a layer must do to be worth two
LARGE = 2304  # inputs and outputs beyond which a spectrum takes minutes
MOST_SHARE = 0.1  # of the variance of a layer's outputs, that a rank may lose
MOST_LOSS = 0.3  # relative squared error of the outputs beyond which a rank is not offered


def rank_options(
    bench: Workbench, numbers: Numbers, base: Plan, objective: Objective, each: Callable[[], None] = lambda: None
) -> dict[Site, tuple[Option, ...]]:
    """Ranks that pay on top of the base plan, priced, highest first; the first option of each keeps the layer.

    each: called after every measurement
    """
    offered = ranks_of(bench)
    collect_for_masks(numbers, Plan({site: choices[0] for site, choices in offered.items()}))
    paying = _paying(bench, base, _bearable(bench, offered), objective, each)
    found: dict[Site, tuple[Option, ...]] = {}
    for site, choices in paying.items():
        options = [Option(Float(), 0.0, 0, 0.0)]
        for choice, saved in choices.items():
            loss = bench.noise(Plan({site: choice}), compared_on(len(bench.samples)))
            each()
            if loss > MOST_LOSS:
                break
            options.append(Option(choice, -saved, -_bytes(bench, base, site, choice), loss))
        if len(options) > 1:
            found[site] = tuple(options)
    return found


def ranks_of(bench: Workbench) -> dict[Site, tuple[LowRank, ...]]:
    """Ranks to be tried of every layer that does enough of the model's work, highest first."""
    nodes = [node for node in bench.model.graph if node.name]
    least = LEAST_WORK * sum(map(macs, nodes))
    found: dict[Site, tuple[LowRank, ...]] = {}
    for node in nodes:
        layer = layer_of(node, None)
        if isinstance(layer, str) or whole_reason(layer) or unrounded(node) or macs(node) < least:
            continue
        ranks = _ranks(layer, bench.target.channel_alignment)
        if ranks and max(layer.view.rows, layer.view.columns) <= LARGE:
            found[Site(node.name or "", node.op_type, KIND)] = tuple(map(LowRank, ranks))
    return found


def _bearable(bench: Workbench, offered: Mapping[Site, Sequence[LowRank]]) -> dict[Site, tuple[LowRank, ...]]:
    """Those that leave most of what the layer gives."""
    nodes, apply = bench.model.by_name(), bench.apply
    found = {}
    for site, choices in offered.items():
        layer = layer_of(nodes[site.name], apply.stats.get(site_of(nodes[site.name])))
        if isinstance(layer, Layer):
            losses = spectrum_of(layer, apply.solved).losses
            found[site] = tuple(choice for choice in choices if losses[choice.rank] <= MOST_SHARE * losses[0])
    return {site: choices for site, choices in found.items() if choices}


def _ranks(layer: Layer, alignment: int) -> list[int]:
    rows, columns = layer.view.rows, layer.view.columns
    largest = largest_rank(rows, columns)
    aligned = {alignment * round(share * largest / alignment) for share in SHARES}
    return sorted((rank for rank in aligned if 0 < rank <= largest), reverse=True)


def _paying(
    bench: Workbench,
    base: Plan,
    offered: Mapping[Site, Sequence[LowRank]],
    objective: Objective,
    each: Callable[[], None],
) -> dict[Site, dict[LowRank, float]]:
    """Choices that save more time than every higher rank, with the milliseconds; for size all."""
    if objective == "size" or not offered:
        return {site: dict.fromkeys(choices, 0.0) for site, choices in offered.items()}
    rungs: list[Mapping[Site, Choice]] = [
        {site: choices[k] for site, choices in offered.items() if k < len(choices)} for k in range(len(SHARES))
    ]
    touched = {site: frozenset({site.name}) for site in offered}
    savings = measured_savings(bench, base, [rung for rung in rungs if rung], touched, each)
    least = LEAST_SAVING * bench.milliseconds(base)
    return {site: _steps(site, choices, savings, least) for site, choices in offered.items()}


def _steps(site: Site, choices: Sequence[LowRank], savings: Savings, least: float) -> dict[LowRank, float]:
    kept: dict[LowRank, float] = {}
    for choice in choices:
        saved = savings.get((site, choice), -inf)
        if saved >= max(kept.values(), default=0.0) + least:
            kept[choice] = saved
    return kept


def _bytes(bench: Workbench, base: Plan, site: Site, choice: LowRank) -> int:
    """Of the weights that are fewer, in the format of the base plan."""
    node: ir.Node = bench.model.by_name()[site.name]
    layer = layer_of(node, None)
    assert isinstance(layer, Layer)
    whole = weight_bytes(node, base.choices.get(site_of(node), Float()), bench.target)
    return round(whole * saved_share(layer.view.rows, layer.view.columns, choice.rank))
