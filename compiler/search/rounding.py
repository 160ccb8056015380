"""The rounding of each layer's weights, by the layer's own objective: E ||(W - W') x||^2, least is best.

Every layer tries the ways of WAYS, with and without zero points; the best of them is then refined by what takes longer,
in layers that are small enough for it (REFINEMENTS). Layers see errors of their own inputs, which those before change:
so what they chose is kept where the whole model loses less with it (confirmed).

A table's is E ||J (w - w')||^2, what the model's outputs feel of errors in the rows that are looked up (row_grams).
Eight bits are rounded to the nearest: what is left to gain there is smaller than what statistics cost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.rows import rows_of
from lwc.compiler.analysis.weights import WeightView, weight_views, weights_at
from lwc.compiler.core.backend import OPEN_BYTES
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.plan import Choice, Plan, Site, Weight4, WeightOnly
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.search.evaluate import Workbench
from lwc.passes.precision.solved import solved_weight
from lwc.passes.precision.weight_forms import stored
from lwc.passes.precision.weight_only import matrix_of
from lwc.passes.solvers.grid import REFIT, Floats, Weights
from lwc.passes.solvers.roundings import loss

log = logging.getLogger(__name__)

WAYS = (("mse", "nearest"), (REFIT, "gptq"))
LARGE = 2_000_000  # weights, beyond which that choice's zero points stay as they are: it takes a second per million
# What to refine by, and the most weights for it: the first that the layer is not too large for. Seconds by GPTQ,
# QuantEase and AdaRound: 0.1, 0.2, 1.2 for minilm-l3's 384 x 384 products, 1.1, 2.3, 12.3 for 1536 x 384.
REFINEMENTS = (("adaround", 250_000), ("quantease", LARGE))
WEIGHTS_PER_GRAM = 1_000  # what a Gram matrix of its own takes beside its weights, in groups of convolutions
SAMPLES = 16  # that the whole model is looked at on


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


def confirmed(
    bench: Workbench, chosen: Mapping[Site, tuple[Choice, ...]], plain: Mapping[Site, tuple[Choice, ...]]
) -> dict[Site, tuple[Choice, ...]]:
    """The chosen 4-bit weights, or plain ones in all layers where the whole model loses less with these.

    Both at once in four bits are run on up to 16 search samples. Of large models, a session of each takes too much.
    """
    if chosen == plain or bench.model.weight_bytes() > OPEN_BYTES:
        return dict(chosen)
    found, before = (bench.noise(Plan(_four_bits(offered)), SAMPLES) for offered in (chosen, plain))
    log.debug("four bits by the layers' choice: noise %.3g instead of %.3g", found, before)
    return dict(plain) if before < found else dict(chosen)


def _four_bits(offered: Mapping[Site, Sequence[Choice]]) -> dict[Site, Choice]:
    return {site: choice for site, choices in offered.items() for choice in choices if isinstance(choice, Weight4)}


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
    gram = layer.stats.gram

    def least(candidates: Iterable[Weight4]) -> Weight4:
        losses: dict[Weight4, float] = {}
        for candidate in candidates:
            try:
                losses[candidate] = _layer_loss(candidate, layer, view, gram, memo)
            except BadPlan:  # this weight's Gram matrix has another shape
                continue
        return min(losses, key=losses.__getitem__, default=choice)

    found = least(_candidates(choice, view))
    refined = _refined(found, view.rows * view.columns + WEIGHTS_PER_GRAM * (len(gram) if gram.ndim == 3 else 0))
    return found if refined is None else least((found, refined))


def _candidates(choice: Weight4, view: WeightView) -> Iterator[Weight4]:
    large = view.rows * view.columns > LARGE
    for weight_range, rounding in WAYS[large:]:
        for symmetric in (choice.symmetric,) if large else (True, False):
            yield replace(choice, weight_range=weight_range, rounding=rounding, symmetric=symmetric)


def _refined(choice: Weight4, work: int) -> Weight4 | None:
    """The choice with a better rounding that the layer is small enough for."""
    rounding = next((name for name, most in REFINEMENTS if work <= most), None)
    return None if rounding is None else replace(choice, weight_range=REFIT, rounding=rounding)


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
