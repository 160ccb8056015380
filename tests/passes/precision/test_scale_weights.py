from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.compiler.analysis.activations import collect
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.backend import Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Site
from lwc.compiler.data import Calibration
from lwc.compiler.testing import CONTEXT, FP32, assert_equivalent, assert_keeps_promises, draw_feeds, parse
from lwc.passes.edit import add_initializer, constant_array
from lwc.passes.precision.scale_weights import ScaleWeights
from lwc.passes.precision.smooth_activations import SmoothActivations
from lwc.passes.precision.smoothing_groups import smoothable
from lwc.passes.solvers.grid import layer_loss, make_grid

RNG = np.random.default_rng(0)
TARGET = replace(OnnxRuntime().narrow(CONTEXT.target), threads=1)
NORM = "g (float[2, 9, 64] x) => (float[a, b, c] y) { t = LayerNormalization(x, g)\n y = MatMul(t, w) }"


def norm_and_matmul() -> ir.Model:
    """A few channels of the normalization are large."""
    model = parse(NORM)
    gamma = np.where(np.arange(64) % 16 == 0, 20.0, 1.0).astype(np.float32)
    weights = {"g": gamma, "w": RNG.standard_normal((64, 24)).astype(np.float32)}
    dangling = {v.name: v for node in model.graph for v in node.inputs if v is not None and v.producer() is None}
    for name, array in weights.items():
        value = dangling[name]
        value.name = None
        value.replace_all_uses_with(add_initializer(model.graph, name, array))
    for index, node in enumerate(model.graph):
        node.name = f"n{index}"
    infer_shapes(model)
    return model


def context_of(model: ir.Model, **asked: Any) -> PassContext:
    def open_session(model: Model, outputs: Sequence[str]) -> Session:
        return OnnxRuntime().session(model, TARGET, outputs)

    whole = Model(model, "study")
    samples = Calibration.open([draw_feeds(model, seed) for seed in range(20)], open_session(whole, []).inputs)
    return PassContext(TARGET, stats=collect(whole, [Site("n1", "MatMul")], samples, open_session, **asked))


def loss(model: ir.Model, gram: np.ndarray) -> float:
    """Of rounding the weight of the MatMul to 4 bits in groups of 32, at its own input."""
    array = constant_array(next(node for node in model.graph if node.name == "n1").inputs[1])
    assert array is not None
    grid = make_grid(array.T, bits=4, symmetric=True, group=32)
    return layer_loss(array.T, grid.dequantize(grid.quantize(array.T)), gram)


def test_rounding_loses_less_and_the_function_stays() -> None:
    model = norm_and_matmul()
    after, ctx = model.clone(), context_of(model, gram=True, channels=True)
    assert assert_keeps_promises(after, ScaleWeights(smoothable(model)), ctx).changed
    assert_equivalent(model, after, tolerance=FP32)
    before = next(iter(ctx.stats.values())).gram
    moved = next(iter(context_of(after, gram=True).stats.values())).gram
    assert before is not None
    assert moved is not None
    assert loss(after, moved) < 0.7 * loss(model, before)


def test_what_was_smoothed_before_stays_for_its_statistics_are_stale() -> None:
    model = norm_and_matmul()
    ctx = context_of(model, gram=True, channels=True)
    assert SmoothActivations(smoothable(model), method="alpha").run(model, ctx).changed
    assert not ScaleWeights(smoothable(model)).run(model, ctx).changed


def test_a_refusal_gives_its_reason() -> None:
    model = norm_and_matmul()
    outcome = ScaleWeights(smoothable(model)).run(model, context_of(model))
    assert "no statistics per channel" in outcome.skipped[0].reason
