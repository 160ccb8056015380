"""Sliced statistics of a model are those of the model once its channels have left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lwc import backends
from lwc.compiler.analysis.activations import collect
from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.analysis.sites import site_of
from lwc.compiler.core.backend import Port
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan, Pruned, Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.target import NAMED
from lwc.compiler.data import Calibration
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.sliced import Sliced

TARGET = NAMED["cpu:x86-64-v4"]

GRAPH = """<ir_version: 10, opset_import: ["": 21]>
g (float[1, 3, 8, 8] x) => (float[1, 5] y) <int64[2] flat = {1, 256}> {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    b = Relu(a)
    d = Conv <group = 6, pads = [1, 1, 1, 1]> (b, wd)
    e = Conv <group = 2> (d, wg)
    f = Reshape(e, flat)
    y = MatMul(f, wf)
}"""
SHAPES = {"w1": (6, 3, 3, 3), "wd": (6, 1, 3, 3), "wg": (4, 3, 1, 1), "wf": (256, 5)}


@pytest.fixture(scope="module")
def model() -> ir.Model:
    """Convolutions, one of them of two groups, and a product behind a Reshape; random weights."""
    proto, rng = onnx.parser.parse_model(GRAPH), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    for node in proto.graph.node:
        node.name = f"node_{node.output[0]}"
    found = ir.from_proto(proto)
    infer_shapes(found)
    return found


def statistics(graph: ir.Model, samples: Sequence[Mapping[str, Any]]) -> dict[Site, LayerStats]:
    """Of every layer, with Gram matrices and moments per channel."""
    model, runtime = Model(graph, "model"), backends.get(backends.REFERENCE)
    sites = [site_of(node) for node in graph.graph if node.op_type in ("Conv", "MatMul")]
    ports = [Port(name, array.dtype, array.shape) for name, array in samples[0].items()]
    return collect(
        model, sites, Calibration.open(list(samples), ports),
        lambda model, names: runtime.session(model, TARGET, names), gram=True, channels=True,
    )  # fmt: skip


def test_moments_are_those_of_the_model_without_the_channels(model: ir.Model) -> None:
    samples = [{"x": np.random.default_rng(k).normal(size=(1, 3, 8, 8)).astype(np.float32)} for k in range(4)]
    stats = statistics(model, samples)
    channels = find_channels(model)
    assert channels.groups
    for group in channels.groups:
        removed = {group.site: (0,)}
        apply = Applier(TARGET)
        fork = apply(Model(model, "m"), Plan({group.site: Pruned((0,))}))
        wanted, found = statistics(fork.ir, samples), Sliced(stats, model, removed)
        read = {slot.node for slot in group.contracted}
        made = {slot.node for slot in group.constants}
        assert read
        for node in fork.graph:
            site = site_of(node)
            if site not in wanted or node.name not in read | made:
                continue
            want, got = wanted[site], found[site]
            assert want.gram is not None
            assert got.gram is not None
            assert got.gram.shape == want.gram.shape
            if node.name in read:
                np.testing.assert_allclose(got.gram, want.gram, rtol=1e-4, atol=1e-4)
                assert got.inputs[0] is not None
                assert want.inputs[0] is not None
                np.testing.assert_allclose(got.inputs[0].channel_mean, want.inputs[0].channel_mean, atol=1e-5)


def test_what_loses_nothing_stays_as_it_was(model: ir.Model) -> None:
    stats = statistics(model, [{"x": np.ones((1, 3, 8, 8), np.float32)}])
    first = next(iter(stats))
    kept = Sliced(stats, model, {})[first]
    assert kept.gram is stats[first].gram
    assert set(Sliced(stats, model, {})) == set(stats)
