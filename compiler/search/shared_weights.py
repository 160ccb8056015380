"""Sites that read one weight: it is rounded for all of them, so that it can be stored once.

The objective of the group is the sum of its layers', sum_i E ||(W - W') x_i||^2: that of one layer whose Gram matrix
is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.sites import site_of
from lwc.compiler.analysis.weights import WeightView, weight_views
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats


def sharing_sites(model: Model, sites: Iterable[Site]) -> list[tuple[Site, ...]]:
    """Groups of two sites or more of the main graph whose weight is one constant, seen alike; those of these sites."""
    wanted = set(sites)
    groups: dict[tuple[ir.Value, WeightView], list[Site]] = {}
    for node in model.graph:
        for view in weight_views(node):
            value = node.inputs[view.index]
            if view.sees_activation and value is not None and node.name:
                groups.setdefault((value, view), []).append(site_of(node))
    return [tuple(group) for group in groups.values() if len(group) > 1 and wanted.intersection(group)]


def add_up_grams(sites: Sequence[Site], stats: MutableMapping[Site, LayerStats]) -> None:
    """Give sites that share a weight the sum of their Gram matrices; as it is when they have it already."""
    grams = [stats[site].gram for site in sites if site in stats]
    known = [gram for gram in grams if gram is not None]
    if len(known) < len(sites) or len({gram.shape for gram in known}) > 1 or all(gram is known[0] for gram in known):
        return
    total = np.sum(known, axis=0)
    stats.update({site: replace(stats[site], gram=total) for site in sites})
