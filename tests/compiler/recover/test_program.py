"""What torch computes is what ONNX Runtime computes, and it can be differentiated."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.testing import DEEP_FP32, Tolerance, disagreement, run_onnxruntime
from lwc.models import digits, docstrings, tiny
from lwc.models.tiny.text import graph

torch = pytest.importorskip("torch")

from lwc.compiler.recover.operators.dtypes import to_torch  # noqa: E402
from lwc.compiler.recover.program import Program, refusal  # noqa: E402
from lwc.compiler.recover.roles import find_roles  # noqa: E402

GRAPHS = sorted(set(tiny.all_graphs()) - set(tiny.NOT_RUNNABLE))
REFUSED = {
    "conv_qdq", "conv_qlinear", "float8_e5m2_cast", "float8_weight", "function", "function_in_branch",
    "function_of_function", "function_used_twice", "function_with_attribute", "int4_weight", "int8_weight",
    "matmul_dynamic_int8", "microsoft_matmul_4_bits", "ml_scaler", "opset_11", "opset_11_softmax_over_all", "opset_7",
    "opset_9", "random_twice", "sequence", "strings", "uint4_weight_in_blocks",
}  # fmt: skip
WRONG_IN_ONNXRUNTIME = {"pad_max_pool"}  # 1.31 loses the zeros of a Pad in front of MaxPool


def computed(model: Model, feeds: Mapping[str, Any]) -> list[Any]:
    program = Program(model)
    with torch.no_grad():
        found = program.run({name: to_torch(array) for name, array in feeds.items()}, program.outputs)
    return [found[name].numpy() for name in program.outputs]


def assert_computes(model: Model, feeds: Mapping[str, Any], tolerance: Tolerance | None = None) -> None:
    expected = run_onnxruntime(model.to_proto(), feeds)
    for want, got in zip(expected, computed(model, feeds), strict=True):
        assert not disagreement(want, got.astype(want.dtype), tolerance)


@pytest.mark.parametrize("name", GRAPHS)
def test_computes_tiny_graphs(name: str) -> None:
    model = Model(tiny.all_graphs()[name](), name)
    if name in REFUSED:
        assert refusal(model)
        with pytest.raises(UnsupportedOperator):
            Program(model)
    elif name not in WRONG_IN_ONNXRUNTIME:
        assert_computes(model, tiny.feeds(model.ir))


@pytest.mark.parametrize("kind", digits.KINDS)
def test_computes_the_digits_models(kind: digits.Kind) -> None:
    model = Model.open(digits.path(kind))
    assert_computes(model, tiny.feeds(model.ir), DEEP_FP32)


def test_computes_the_docstrings_model() -> None:
    model = Model.open(docstrings.path())
    assert_computes(model, tiny.feeds(model.ir), DEEP_FP32)


def test_a_refusal_names_node_and_operator() -> None:
    model = Model(graph("(float[2] x) => (float[2] y) { y = Bernoulli(x) }")(), "coin")
    model.graph[0].name = "toss"
    reason = "there is no operator Bernoulli in the table of lwc.compiler.recover"
    assert refusal(model) == f"coin: node 'toss' cannot be differentiated: {reason}."


def test_a_use_that_is_not_supported_names_the_node() -> None:
    build = graph("""(float[1,1,4,4] x) => (float[1,1,2,2] y)
        { y = AveragePool <kernel_shape = [2,2], dilations = [2,2]> (x) }""", 19)
    model = Model(build(), "pool")
    model.graph[0].name = "mean"
    with pytest.raises(UnsupportedOperator, match=r"'mean'.*dilations"):
        computed(model, {"x": np.zeros((1, 1, 4, 4), np.float32)})


def test_an_output_of_training_is_refused() -> None:
    text = "(float[1,1,4,4] x) => (float[1,1,2,2] y, int64[1,1,2,2] i) { y, i = MaxPool <kernel_shape = [3,3]> (x) }"
    assert "output 1 of MaxPool" in refusal(Model(graph(text)(), "places"))


TWO_LAYERS = graph("""(float[N,3] x) => (float[N,4] y, float[N,5] other) <float[3,5] w1, float[5,4] w2>
    { h = MatMul(x, w1) r = Relu(h) y = MatMul(r, w2) other = Neg(x) }""")


def test_values_in_between_can_be_given_and_asked_for() -> None:
    program = Program(Model(TWO_LAYERS(), "two"))
    h = torch.tensor([[1.0, -2.0, 3.0, -4.0, 5.0]])
    found = program.run({"h": h}, ["r", "y"])
    assert torch.equal(found["r"], h.clamp_min(0))
    assert torch.allclose(found["y"], h.clamp_min(0) @ program.weights["w2"])
    assert program.reads({"h"}, ["y"]) == {"w2"}
    assert program.reads({"x"}, ["y"]) == {"w1", "w2"}


def test_other_weights_are_computed_with_and_differentiated() -> None:
    program = Program(Model(TWO_LAYERS(), "two"))
    weight = torch.ones(5, 4, requires_grad=True)
    program.run({"h": torch.ones(2, 5)}, ["y"], {"w2": weight})["y"].sum().backward()
    assert torch.equal(weight.grad, torch.full((5, 4), 2.0))
    assert not torch.equal(program.weights["w2"], weight)


# Operators whose derivatives are ours or come of arithmetic of ours.
DIFFERENTIABLE = (
    "attention_fused", "average_pool", "batch_norm", "conv_auto_pad", "conv_transpose", "gemm",
    "gru_linear_before_reset", "group_norm", "hard_swish", "layer_norm_decomposed", "loop_of_count", "lrn",
    "lstm_bidirectional", "max_pool_ceil", "prelu", "resize_linear_to_size", "resize_nearest", "rms_norm", "scan",
    "slice", "tied_embedding", "where",
)  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_by_weights_and_inputs_are_those_of_differences(name: str) -> None:
    model = Model(tiny.all_graphs()[name](), name)
    program = Program(model)
    drawn = {key: to_torch(array) for key, array in tiny.feeds(model.ir, seed=3).items()}
    learning = {key: program.weights[key] for key in find_roles(model, everything=True)}
    moving = {key: x for key, x in (*drawn.items(), *learning.items()) if x.is_floating_point()}

    def output(step: float) -> Any:
        moved = {key: x + step * direction[key] for key, x in moving.items()}
        weights = {key: x for key, x in moved.items() if key not in drawn}
        found = program.run(drawn | {key: x for key, x in moved.items() if key in drawn}, program.outputs[:1], weights)
        return found[program.outputs[0]].double().sin().sum()

    generator = torch.Generator().manual_seed(0)
    direction = {key: torch.randn(x.shape, generator=generator) for key, x in moving.items()}
    for x in moving.values():
        x.requires_grad_()
    output(0.0).backward()
    slope = sum(float((x.grad * direction[key]).sum()) for key, x in moving.items() if x.grad is not None)
    with torch.no_grad():
        difference = float(output(1e-3) - output(-1e-3)) / 2e-3
    assert slope == pytest.approx(difference, rel=0.03, abs=0.02)
    assert slope != 0.0
