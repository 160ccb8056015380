"""One weight that several sites read is rounded once, for the sum of what they lose, and stored once."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lwc.compiler.analysis.sites import site_of
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan, Site, Weight4
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.target import host
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.shared_weights import add_up_grams, sharing_sites

# Three read w alike, one reads it transposed.
TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[99, 64] x) => (float[99, 64] y) {
    a = MatMul (x, w)
    b = Tanh (a)
    c = MatMul (b, w)
    d = Gemm <transB = 1> (c, w)
    y = Gemm (d, w)
}"""


@pytest.fixture
def model() -> Model:
    proto = onnx.parser.parse_model(TEXT)
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    for index, node in enumerate(proto.graph.node):
        node.name = f"n{index}"
    return Model.from_proto(proto)


def sites_of(model: Model) -> dict[str, Site]:
    return {node.name or "": site_of(node) for node in model.graph}


def with_gram(seed: int, size: int = 64) -> LayerStats:
    x = np.random.default_rng(seed).normal(size=(2 * size, size))
    return LayerStats((), (), x.T @ x)


def test_only_readers_that_see_the_weight_alike_share_it(model: Model) -> None:
    sites = sites_of(model)
    (group,) = sharing_sites(model, [sites["n2"]])
    assert group == (sites["n0"], sites["n2"], sites["n4"])
    assert sharing_sites(model, [sites["n3"]]) == []
    assert sharing_sites(model, []) == []


def test_the_sum_of_the_gram_matrices_is_taken_once(model: Model) -> None:
    (group,) = sharing_sites(model, sites_of(model).values())
    stats = {site: with_gram(seed) for seed, site in enumerate(group)}
    total = sum(layer.gram for layer in stats.values() if layer.gram is not None)
    for _ in range(2):  # summed up already, it stays
        add_up_grams(group, stats)
        assert all(stats[site].gram is stats[group[0]].gram for site in group)
        np.testing.assert_allclose(stats[group[0]].gram, total)


def test_matrices_of_different_sizes_and_missing_ones_stay(model: Model) -> None:
    (group,) = sharing_sites(model, sites_of(model).values())
    for other in (with_gram(1, 32), LayerStats((), ())):
        stats = {group[0]: with_gram(0), group[1]: other, group[2]: with_gram(2)}
        before = dict(stats)
        add_up_grams(group, stats)
        assert stats == before


def test_a_weight_that_is_rounded_alike_is_stored_once(model: Model) -> None:
    (group,) = sharing_sites(model, sites_of(model).values())
    choice = Weight4(group=32, symmetric=False, rounding="gptq")
    sizes = []
    for shared in (False, True):
        apply = Applier(host())
        apply.stats.update({site: with_gram(seed) for seed, site in enumerate(group)})
        if shared:
            add_up_grams(group, apply.stats)
        made = apply(model, Plan(dict.fromkeys(group, choice)))
        sizes.append(made.weight_bytes() - 4 * 64 * 64)  # the other reader's stays
    assert sizes[0] > 3 * 64 * 64 // 2
    assert sizes[1] < 0.4 * sizes[0]
