"""Activations of 16 bits: the same graph as with 8, closer to float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.plan import Plan, Site, StaticInt8

RNG = np.random.default_rng(5)


def draw(*shape: int) -> Any:
    return (RNG.standard_normal(shape) * np.prod(shape[1:]) ** -0.5).astype(np.float32)


CNN = """agraph (float[1,3,16,16] x) => (float[1,10] y) <float low = {0}, float six = {6}, float[1] half = {0.3}>
    { a = Conv <strides = [2,2], pads = [1,1,1,1]> (x, w1, b1) ra = Clip(a, low, six)
      c = Conv <pads = [1,1,1,1]> (ra, w2, b2) hc = HardSwish(c) s = Add(hc, ra) z = Add(s, half)
      m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (z) t = Transpose <perm = [0,1,3,2]> (m)
      g = HardSigmoid(t) k = Concat <axis = 1> (t, g) p = AveragePool <kernel_shape = [4,4]> (k) f = Flatten(p)
      h = Gemm(f, w3, b3) y = Tanh(h) }"""
WEIGHTS = {
    "w1": 4 * draw(16, 3, 3, 3), "b1": draw(16), "w2": draw(16, 16, 3, 3), "b2": draw(16), "w3": draw(32, 10),
    "b3": draw(10),
}  # fmt: skip
MLP = """agraph (float[4,16] x) => (float[4,8] y)
    { h = MatMul(x, w1) b = Add(h, b1) r = Relu(b) y = MatMul(r, w2) }"""
MLP_WEIGHTS = {"w1": draw(16, 16), "b1": draw(16), "w2": draw(16, 8)}


def wide(keep: Callable[[Site], bool] = lambda site: True) -> Callable[[Plan], Plan]:
    """16 bits at these sites."""
    return lambda plan: Plan(
        {s: replace(c, activation_bits=16) if isinstance(c, StaticInt8) and keep(s) else c
         for s, c in plan.choices.items()},
        plan.ranges,
    )  # fmt: skip


def activation_types(study: Any) -> list[str]:
    """Of the codes that every QuantizeLinear makes, in graph order."""
    return [node.outputs[0].dtype.name for node in study.after.graph if node.op_type == "QuantizeLinear"]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("text", "weights"), [(CNN, WEIGHTS), (MLP, MLP_WEIGHTS)])
def test_wide_activations_are_closer_to_float(
    study: Callable[..., Any], text: str, weights: dict[str, Any], symmetric: bool
) -> None:
    narrow = study(text, weights, opset=21, symmetric_activations=symmetric)
    result = study(text, weights, opset=21, plan=wide(), symmetric_activations=symmetric)
    assert set(activation_types(result)) == {"INT16" if symmetric else "UINT16"}
    assert result.sqnr() > narrow.sqnr() + 1.0  # the rest is the weights'
    assert not result.outcome.skipped


def test_with_activations_alone_rounded_16_bits_are_nearly_exact(study: Callable[..., Any]) -> None:
    """A weight of ones is exact in int8, so what is left is the activations' error."""
    text = "agraph (float[4,16] x) => (float[4,8] y) { y = MatMul(x, w) }"
    decibels = [
        study(text, {"w": np.ones((16, 8), np.float32)}, opset=21, plan=p).sqnr() for p in (wide(), lambda p: p)
    ]
    assert decibels[0] > 85.0
    assert decibels[1] < 60.0


def test_weights_keep_8_bits(study: Callable[..., Any]) -> None:
    constants = study(CNN, WEIGHTS, opset=21, plan=wide()).initializers()
    assert {constants[f"{name}.q"].dtype for name in ("w1", "w2", "w3")} == {np.dtype(np.int8)}


def test_sites_of_8_and_16_bits_stand_side_by_side(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,4,8,8] x) => (float[1,8,2,2] y)
        { a = Conv(x, w1) t = Transpose <perm = [0,1,3,2]> (a) b = Conv(t, w2) y = Conv(b, w3) }"""
    weights = {"w1": draw(8, 4, 3, 3), "w2": draw(8, 8, 3, 3), "w3": draw(8, 8, 3, 3)}
    result = study(text, weights, opset=21, plan=wide(lambda site: site.name == "conv_2"))
    narrow = study(text, weights, opset=21)
    types = {
        node.inputs[0].name: node.outputs[0].dtype for node in result.after.graph if node.op_type == "QuantizeLinear"
    }
    assert types == {
        "x": ir.DataType.UINT8, "a": ir.DataType.UINT16, "b": ir.DataType.UINT16, "y.float": ir.DataType.UINT8,
    }  # fmt: skip
    assert result.sqnr() > narrow.sqnr()


def test_scales_of_16_bits_can_be_powers_of_two(study: Callable[..., Any]) -> None:
    result = study(MLP, MLP_WEIGHTS, opset=21, plan=wide(), power_of_two_scales=True)
    constants = result.initializers()
    steps = [constants[node.inputs[1].name] for node in result.after.graph if node.op_type == "QuantizeLinear"]
    assert all((np.frexp(step)[0] == 0.5).all() for step in steps)
    assert result.sqnr() > 30.0


def test_older_opsets_are_refused(study: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedOpset, match="int8 needs 21"):
        study(MLP, MLP_WEIGHTS, plan=wide())
