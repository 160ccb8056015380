"""Biases of static int8 that make up for what rounding the weights does to the mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.sites import find_sites
from lwc.compiler.core.accumulate import TensorAccumulator
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Range, Site, StaticInt8
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.target import BYTE_OPS, NAMED
from lwc.compiler.testing import parse
from lwc.passes.precision import required_values
from lwc.passes.precision.static_int8 import QuantizeStatic

RNG = np.random.default_rng(3)
TARGET = replace(NAMED["cpu:x86-64-v4"], byte_ops=frozenset(BYTE_OPS))
CORRECTED = StaticInt8(bias="corrected")


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


LAYERS = {
    "Conv": ("float[1,4,6,6] x) => (float[1,8,4,4] y) { y = Conv (x, w, b) }", draw(8, 4, 3, 3), 1),
    "grouped Conv": ("float[1,4,6,6] x) => (float[1,8,4,4] y) { y = Conv <group = 2> (x, w, b) }", draw(8, 2, 3, 3), 1),
    "depthwise Conv": ("float[1,4,6] x) => (float[1,8,4] y) { y = Conv <group = 4> (x, w, b) }", draw(8, 1, 3), 1),
    "Conv in blocks": (
        "float[1,3,8,8] x) => (float[1,8,4,4] y) { y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b) }",
        draw(8, 3, 3, 3),
        1,
    ),
    "Gemm": ("float[2,16] x) => (float[2,8] y) { y = Gemm <alpha = 0.5, beta = 2.0> (x, w, b) }", draw(16, 8), -1),
    "Gemm transB": ("float[2,16] x) => (float[2,8] y) { y = Gemm <transB = 1> (x, w, b) }", draw(8, 16), -1),
    "MatMul and Add": ("float[2,3,16] x) => (float[2,3,8] y) { t = MatMul (x, w)\n y = Add (t, b) }", draw(16, 8), -1),
}


def model_of(text: str, **weights: Any) -> Model:
    model = parse(f"agraph ({text}")
    for name, array in weights.items():
        value = next(v for node in model.graph for v in node.inputs if v is not None and v.name == name)
        value.const_value = ir.tensor(array, name=name)
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(array.shape)
        model.graph.register_initializer(value)
    for index, node in enumerate(model.graph):
        node.name = f"node_{index}"
    return Model(model, "layer")


def stats_of(axis: int, x: Any) -> LayerStats:
    accumulator = TensorAccumulator(axis)
    accumulator.update(x)
    return LayerStats((accumulator.finish(),), (None,))


def apply(model: Model, stats: dict[Site, LayerStats], choice: StaticInt8 = CORRECTED) -> Model:
    sites = dict.fromkeys(find_sites(model, TARGET), choice)
    plan = Plan(sites, dict.fromkeys(required_values(model.ir, sites), Range(-4.0, 4.0)))
    fork = model.fork()
    QuantizeStatic().run(fork.ir, PassContext(TARGET, plan, stats))
    return fork


def constant(value: ir.Value | None) -> Any:
    """What a DequantizeLinear of constants gives, float64."""
    assert value is not None
    node = value.producer()
    assert node is not None
    codes, scale = (node.inputs[k].const_value.numpy().astype(np.float64) for k in (0, 1))  # type: ignore[union-attr]
    shape = [1] * codes.ndim
    shape[node.attributes.get_int("axis", 1)] = -1
    return codes * scale.reshape(shape)


def mean_output(model: Model, mean: Any) -> Any:
    """Of the integer layer, on an input that is its mean everywhere, away from padding: [out]."""
    node = next(node for node in model.graph if node.op_type in ("Conv", "Gemm"))
    weight, bias = constant(node.inputs[1]), constant(node.inputs[2])
    return product(node, weight, mean) + bias.reshape(-1)


def product(node: ir.Node, weight: Any, mean: Any) -> Any:
    if node.op_type != "Conv":
        return weight @ mean if node.attributes.get_int("transB", 0) else mean @ weight
    groups = node.attributes.get_int("group", 1)
    per_output = np.repeat(mean.reshape(groups, -1), len(weight) // groups, axis=0)
    per_output = np.tile(per_output, weight.shape[1] // per_output.shape[1])
    return (weight.reshape(*weight.shape[:2], -1).sum(2) * per_output).sum(1)


@pytest.mark.parametrize("name", LAYERS)
def test_the_mean_of_every_output_is_that_of_float_weights(name: str) -> None:
    text, weight, axis = LAYERS[name]
    bias = draw(8)
    model = model_of(text, w=weight, b=bias)
    shape = [dim for dim in model.graph.inputs[0].shape if isinstance(dim, int)]  # type: ignore[union-attr]
    x = draw(*shape) + draw(shape[axis]).reshape(-1, *(1,) * (len(shape) - 2 if axis == 1 else 0))
    mean = x.mean(tuple(k for k in range(x.ndim) if k != axis % x.ndim), dtype=np.float64)
    first = next(iter(model.graph))
    alpha, beta = first.attributes.get_float("alpha", 1.0), first.attributes.get_float("beta", 1.0)
    wanted = alpha * product(first, weight.astype(np.float64), mean) + beta * bias
    stats = {site: stats_of(axis, x) for site in find_sites(model, TARGET)}
    kept = np.abs(mean_output(apply(model, stats, StaticInt8()), mean) - wanted).max()
    corrected = np.abs(mean_output(apply(model, stats), mean) - wanted).max()
    assert corrected < 0.2 * kept
    assert corrected < 1e-3


def test_a_mean_that_is_not_known_is_a_bad_plan() -> None:
    text, weight, _ = LAYERS["Gemm"]
    model = model_of(text, w=weight, b=draw(8))
    with pytest.raises(BadPlan, match="mean of its input is not known"):
        apply(model, {})


def test_layers_without_a_bias_are_as_they_were() -> None:
    model = model_of(LAYERS["Conv"][0].replace(", b)", ")"), w=draw(8, 4, 3, 3))
    assert apply(model, {}).digest() == apply(model, {}, StaticInt8()).digest()
