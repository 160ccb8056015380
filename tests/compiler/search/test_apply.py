"""Plans that do several things to one layer: what is solved behind pruning sees the channels that stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from lwc import backends
from lwc.compiler.analysis.activations import collect
from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.analysis.sites import site_of
from lwc.compiler.core.backend import Port
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, LowRank, Masked, Plan, Pruned, Site
from lwc.compiler.core.target import NAMED
from lwc.compiler.data import Calibration
from lwc.compiler.search.apply import Applier
from lwc.models.tiny.text import graph

TARGET = NAMED["cpu:x86-64-v4"]
LAYERS = graph("""(float[1,6] x) => (float[1,12] y) <float[16,6] w1, float[16] b1, float[12,16] w2, float[12] b2>
    { a = Gemm <transB = 1> (x, w1, b1) r = Relu(a) y = Gemm <transB = 1> (r, w2, b2) }""")


@pytest.fixture
def model() -> Model:
    found = LAYERS()
    for node in found.graph:
        node.name = node.outputs[0].name
    infer_shapes(found)
    return Model(found, "model")


def applier(model: Model, samples: list[dict[str, Any]]) -> Applier:
    """With statistics of every layer."""
    runtime = backends.get(backends.REFERENCE)
    sites = [site_of(node) for node in model.graph if node.op_type == "Gemm"]
    stats = collect(
        model, sites, Calibration.open(samples, [Port("x", np.dtype(np.float32), (1, 6))]),
        lambda model, names: runtime.session(model, TARGET, names), gram=True, channels=True,
    )  # fmt: skip
    return Applier(TARGET, dict(stats))


def weight(model: ir.Model, name: str) -> Any:
    return next(node for node in model.graph if node.name == name).inputs[1].const_value.numpy()


@pytest.mark.parametrize(
    ("site", "choice"), [(Site("y", "Gemm", "mask"), Masked("2:4", "admm")), (Site("y", "Gemm", "rank"), LowRank(3))]
)
def test_a_layer_behind_pruned_channels_is_solved_with_those_that_stay(
    model: Model, site: Site, choice: Choice
) -> None:
    samples = [{"x": np.random.default_rng(k).standard_normal((1, 6)).astype(np.float32)} for k in range(64)]
    apply = applier(model, samples)
    group = find_channels(model.ir).groups[0]
    pruned = Pruned((1, 4, 7, 10), "least-squares")
    fork, skipped = apply.with_skips(model, Plan({group.site: pruned, site: choice}))
    bare, _ = apply.with_skips(model, Plan({group.site: pruned}))
    assert not skipped
    assert 12 in weight(fork.ir, "y").shape
    assert not np.array_equal(weight(fork.ir, "y"), weight(bare.ir, "y"))
    # Solved for inputs as they are, the layer loses less than by what is known of none.
    unseen = Masked("2:4", "magnitude") if isinstance(choice, Masked) else choice
    blind = Applier(TARGET, {})(bare, Plan({site: unseen}))
    runtime = backends.get(backends.REFERENCE)
    outputs = [
        np.stack([runtime.session(each, TARGET).run(sample)["y"] for sample in samples]) for each in (fork, blind, bare)
    ]
    assert np.square(outputs[0] - outputs[2]).sum() < np.square(outputs[1] - outputs[2]).sum()
