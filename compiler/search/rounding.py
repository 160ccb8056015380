"""The rounding of each layer's weights, by the layer's own objective: E ||(W - W') x||^2, least is best.

A table's is E ||J (w - w')||^2, what the model's outputs feel of errors in the rows that are looked up (row_grams).
Eight bits are rounded to the nearest: what is left to gain there is smaller than what statistics cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.rows import rows_of
from lwc.compiler.analysis.weights import WeightView, weight_views, weights_at
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.plan import Choice, Site, Weight4, WeightOnly
from lwc.compiler.core.stats import LayerStats
from lwc.passes.precision.solved import solved_weight
from lwc.passes.precision.weight_forms import stored
from lwc.passes.precision.weight_only import matrix_of
from lwc.passes.solvers.grid import REFIT, Floats, Weights
from lwc.passes.solvers.roundings import loss

WAYS = (("mse", "nearest"), (REFIT, "gptq"))
LARGE = 2_000_000  # weights, beyond which that choice's zero points stay as they are: it takes a second per million


def sites_to_solve(offered: Mapping[Site, Sequence[Choice]], nodes: Mapping[str, ir.Node]) -> dict[Site, str]:
    """Sites that offer four bits and whose weights can be solved -> the value whose Gram matrix that takes."""
    four_bits = (site for site, choices in offered.items() if any(isinstance(choice, Weight4) for choice in choices))
    return solving_sources(four_bits, nodes)


def solving_sources(sites: Iterable[Site], nodes: Mapping[str, ir.Node]) -> dict[Site, str]:
    """Site -> name of the activation that its weight multiplies, or of the rows that are looked up in it."""
    wanted = tuple(sites)
    rows = {site: nodes[site.name].outputs[0].name or "" for site in wanted if _table_view(nodes[site.name])}
    return gram_sources(wanted, nodes) | rows


def gram_sources(sites: Iterable[Site], nodes: Mapping[str, ir.Node]) -> dict[Site, str]:
    """Site -> name of the activation that its weight multiplies, where there is one."""
    found: dict[Site, str] = {}
    for site in sites:
        node = nodes[site.name]
        rows = rows_of(node)
        activation = node.inputs[rows[0]] if rows is not None else None
        if activation is not None and activation.name and _seeing_view(node) is not None:
            found[site] = activation.name
    return found


def choose_roundings(
    offered: Mapping[Site, Sequence[Choice]],
    nodes: Mapping[str, ir.Node],
    stats: Mapping[Site, LayerStats],
    memo: MutableMapping[Any, Any],
    *,
    portable: bool = False,
) -> dict[Site, tuple[Choice, ...]]:
    """The same choices, 4-bit ones with the rounding, range and symmetry that lose least at their layer.

    memo: PassContext.solved, so that what is solved here need not be solved again;  portable: see Target
    """
    return {
        site: tuple(
            _best(choice, _Layer(site, nodes[site.name], stats.get(site), portable), memo)
            if isinstance(choice, Weight4)
            else choice
            for choice in choices
        )
        for site, choices in offered.items()
    }


def needs_gram(choice: Choice) -> bool:
    """Whether applying the choice takes the Gram matrix of the layer's input."""
    if not isinstance(choice, WeightOnly):
        return False
    return choice.rounding != "nearest" or choice.weight_range in ("hessian", "learned", REFIT)


def relative_loss(
    site: Site,
    node: ir.Node,
    choice: WeightOnly,
    stats: LayerStats | None,
    memo: MutableMapping[Any, Any],
    *,
    portable: bool = False,
) -> float:
    """tr(E H E^T) / tr(W H W^T), E what rounding changes: all weights of the node together.

    H is the Gram matrix of the layer's input, or the identity where none is known.
    memo: PassContext.solved, where what was solved before is found;  portable: see Target
    """
    noise = power = 0.0
    for reader, view in weights_at(node):
        exact, rounded = _rounded(choice, _Layer(site, reader, stats, portable), view, memo)
        gram = stats.gram if stats is not None and (view.sees_activation or site.op == "Gather") else None
        noise += _cost(exact - rounded, gram)
        power += _cost(exact, gram)
    return noise / power if power > 0.0 else 0.0


def _cost(error: Weights, gram: Floats | None) -> float:
    if gram is None:
        return float(np.vdot(error, error))
    return loss(error, gram, np.zeros_like(error))


def _seeing_view(node: ir.Node) -> WeightView | None:
    return next((view for view in weight_views(node) if view.sees_activation), None)


def _table_view(node: ir.Node) -> WeightView | None:
    return next((view for view in weight_views(node) if node.op_type == "Gather" and view.index == 0), None)


@dataclass(frozen=True, eq=False)
class _Layer:
    site: Site
    node: ir.Node
    stats: LayerStats | None
    portable: bool


def _best(choice: Weight4, layer: _Layer, memo: MutableMapping[Any, Any]) -> Weight4:
    view = _seeing_view(layer.node) or _table_view(layer.node)
    if view is None or layer.stats is None or layer.stats.gram is None:
        return choice
    losses: dict[Weight4, float] = {}
    for candidate in _candidates(choice, view):
        try:
            losses[candidate] = _layer_loss(candidate, layer, view, layer.stats.gram, memo)
        except BadPlan:  # this weight's Gram matrix has another shape
            continue
    return min(losses, key=losses.__getitem__, default=choice)


def _candidates(choice: Weight4, view: WeightView) -> Iterator[Weight4]:
    large = view.rows * view.columns > LARGE
    for weight_range, rounding in WAYS[large:]:
        for symmetric in (choice.symmetric,) if large else (True, False):
            yield replace(choice, weight_range=weight_range, rounding=rounding, symmetric=symmetric)


def _layer_loss(
    choice: Weight4, layer: _Layer, view: WeightView, gram: Floats, memo: MutableMapping[Any, Any]
) -> float:
    exact, rounded = _rounded(choice, layer, view, memo)
    return loss(exact, gram, rounded)


def _rounded(
    choice: WeightOnly, layer: _Layer, view: WeightView, memo: MutableMapping[Any, Any]
) -> tuple[Weights, Weights]:
    """The weight as it is and as the choice stores it, [out, in]."""
    kept = stored(layer.node, view, choice, portable=layer.portable)
    weight = matrix_of(layer.node, layer.site, kept)
    codes, grid = solved_weight(weight, replace(choice, group=kept.group), layer.stats, memo)
    return weight.numbers(), grid.dequantize(codes.astype(np.int32))
