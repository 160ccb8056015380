"""Biases that make up for rounded weights, where the whole model shows that they help.

    b' = b + (W - W') E[x]

That takes the rounding's part out of the mean of every output at no cost at run time (Nagel et al. 2019, section 4.2):
E ||(W - W') x||^2 falls by ||(W - W') E[x]||^2 in every layer. What a network makes of that can go either way, and
activations mostly lose more than weights: so all layers together are tried, and measured.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

import onnx_ir as ir

from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Plan, Site, StaticInt8
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.search.numbers import Numbers
from lwc.passes.precision.formats import find_units
from lwc.passes.precision.static_int8 import CORRECTED

log = logging.getLogger(__name__)

NO_NOISE = 1e-4  # relative squared error, 40 dB, below which there is nothing to gain
CLEARLY_LESS = 0.7  # of the error: what is measured on few samples must hold on others
SAMPLES = 16


def mean_sources(model: Model, sites: Iterable[Site]) -> dict[Site, str]:
    """Sites whose kernel adds a bias to a product by a constant -> the value whose mean that takes."""
    by_name = {site.name: site for site in sites}
    units, _ = find_units(model.graph, by_name.values())
    inputs = {node: node.inputs[0] for node, unit in units.items() if unit.weight is not None and unit.bias is not None}
    return {by_name[node.name or ""]: value.name or "" for node, value in inputs.items() if value is not None}


def needs_mean(choice: Choice) -> bool:
    """Whether applying the choice takes the mean of the layer's input."""
    return isinstance(choice, StaticInt8) and choice.bias == CORRECTED


def choose_biases(numbers: Numbers, static: Mapping[Site, Choice]) -> dict[Site, Choice]:
    """The same choices, with corrected biases if the model's outputs then lose clearly less.

    static: every site that can be static int8. Those without a bias say the same, so that formats stay uniform.
    """
    bench = numbers.bench
    count = min(SAMPLES, len(bench.samples))
    kept = bench.noise(Plan(static, numbers.ranges), count)
    if kept < NO_NOISE:
        return dict(static)
    sources = mean_sources(bench.model, static)
    stats = numbers.collect_means(sources)
    nodes = bench.model.by_name()
    corrected = {
        site: replace(choice, bias=CORRECTED)
        if isinstance(choice, StaticInt8) and (site not in sources or _is_known(nodes[site.name], stats.get(site)))
        else choice
        for site, choice in static.items()
    }
    found = bench.noise(Plan(corrected, numbers.ranges), count)
    log.debug("corrected biases: noise %.3g instead of %.3g", found, kept)
    return corrected if found < CLEARLY_LESS * kept else dict(static)


def _is_known(node: ir.Node, layer: LayerStats | None) -> bool:
    """Whether the mean is known along the axis of the input that the layer's weight multiplies."""
    value, first = node.inputs[0], layer.inputs[0] if layer is not None else None
    if first is None or first.channel_mean is None or value is None or value.shape is None:
        return False
    return first.axis == (1 if node.op_type == "Conv" else len(value.shape) - 1 - node.attributes.get_int("transA", 0))
