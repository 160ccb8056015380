"""Weights in 8 and 4 bits compute what their dequantized numbers compute, and take the bytes that were predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from lwc.backends.onnxruntime.session import OrtSession, create, session_options
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.analysis.sites import choices_at, find_sites
from lwc.compiler.analysis.weights import weight_views
from lwc.compiler.core.errors import BadPlan, UnsupportedOpset
from lwc.compiler.core.model import Model
from lwc.compiler.core.opset import ensure_opset
from lwc.compiler.core.pass_ import Outcome, PassContext
from lwc.compiler.core.plan import Plan, Site, Weight4, Weight8, WeightOnly
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.target import NAMED
from lwc.compiler.search.cost import weight_bytes
from lwc.compiler.testing import DEEP_FP32, FP32, assert_keeps_promises, disagreement
from lwc.models import tiny
from lwc.passes import clean
from lwc.passes.edit import add_initializer
from lwc.passes.precision.solved import solved_weight
from lwc.passes.precision.weight_forms import stored
from lwc.passes.precision.weight_only import QuantizeWeights, matrix_of

TARGET = replace(NAMED["cpu:x86-64-v4"], threads=1)
PORTABLE = replace(TARGET, portable=True)
EXACTLY = QuantizeWeights(accuracy_level=1)
BITS = {4: Weight4, 8: Weight8}
RNG = np.random.default_rng(7)


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


# name -> graph, constants, shapes of inputs (integers are drawn for int64 ones)
CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "matmul": ("(float[2,5,40] x) => (float[2,5,48] y) { y = MatMul (x, w) }", {"w": draw(40, 48)}),
    "matmul with bias": (
        "(float[b,5,64] x) => (float[b,5,24] y) { t = MatMul (x, w)\n y = Add (b, t) }",
        {"w": draw(64, 24), "b": draw(24)},
    ),
    "matmul, relu": (
        "(float[5,64] x) => (float[5,24] y) { t = MatMul (x, w)\n s = Add (t, b)\n y = Relu (s) }",
        {"w": draw(64, 24), "b": draw(24)},
    ),
    "matmul of many rows": ("(float[b,20,64] x) => (float[b,20,24] y) { y = MatMul (x, w) }", {"w": draw(64, 24)}),
    "weight on the left": ("(float[36,5] x) => (float[48,5] y) { y = MatMul (w, x) }", {"w": draw(48, 36)}),
    "stack of weights": ("(float[3,5,32] x) => (float[3,5,16] y) { y = MatMul (x, w) }", {"w": draw(3, 32, 16)}),
    "vector times matrix": ("(float[64] x) => (float[24] y) { y = MatMul (x, w) }", {"w": draw(64, 24)}),
    "gemm": ("(float[5,64] x) => (float[5,24] y) { y = Gemm (x, w, b) }", {"w": draw(64, 24), "b": draw(24)}),
    "gemm, all attributes": (
        "(float[5,64] x) => (float[5,24] y) { y = Gemm <transB = 1, alpha = 0.5, beta = 3.0> (x, w, b) }",
        {"w": draw(24, 64), "b": draw(24)},
    ),
    "gemm of a transposed activation": (
        "(float[64,5] x) => (float[5,24] y) { y = Gemm <transA = 1> (x, w, b) }",
        {"w": draw(64, 24), "b": draw(24)},
    ),
    "gemm with a bias of rows": (
        "(float[5,64] x) => (float[5,24] y) { y = Gemm (x, w, b) }",
        {"w": draw(64, 24), "b": draw(5, 1)},
    ),
    "conv": (
        "(float[1,16,8,8] x) => (float[1,12,6,6] y) { y = Conv (x, w, b) }",
        {"w": draw(12, 16, 3, 3), "b": draw(12)},
    ),
    "grouped conv": (
        "(float[1,48,8] x) => (float[1,24,6] y) { y = Conv <group = 2> (x, w) }",
        {"w": draw(24, 24, 3)},
    ),
    "conv whose groups are ragged": (
        "(float[1,134,8] x) => (float[1,12,8] y) { y = Conv (x, w) }",
        {"w": draw(12, 134, 1)},
    ),
    "depthwise conv": (
        "(float[1,128,8,8] x) => (float[1,128,6,6] y) { y = Conv <group = 128> (x, w) }",
        {"w": draw(128, 1, 3, 3)},
    ),
    "transposed conv": (
        "(float[1,36,4,4] x) => (float[1,32,8,8] y) { y = ConvTranspose <group = 2, strides = [2, 2]> (x, w) }",
        {"w": draw(36, 16, 2, 2)},
    ),
    "embedding": ("(int64[b,t] x) => (float[b,t,64] y) { y = Gather (w, x) }", {"w": draw(50, 64)}),
    "embedding of odd width": ("(int64[b] x) => (float[b,33] y) { y = Gather (w, x) }", {"w": draw(50, 33)}),
    "embedding of matrices": ("(int64[b] x) => (float[b,4,16] y) { y = Gather (w, x) }", {"w": draw(50, 4, 16)}),
    "embedding of one": ("(int64 x) => (float[64] y) { y = Gather (w, x) }", {"w": draw(50, 64)}),
    "gather along another axis": (
        "(int64[b] x) => (float[64,b] y) { y = Gather <axis = 1> (w, x) }",
        {"w": draw(64, 80)},
    ),
    "lstm": (
        """(float[6,2,24] x) => (float[6,2,2,16] y)
            { y = LSTM <hidden_size = 16, direction = "bidirectional"> (x, w, r, b) }""",
        {"w": draw(2, 64, 24) / 4, "r": draw(2, 64, 16) / 4, "b": draw(2, 128)},
    ),
    "gru": (
        "(float[6,2,24] x) => (float[6,1,2,16] y) { y = GRU <hidden_size = 16> (x, w, r) }",
        {"w": draw(1, 48, 24) / 4, "r": draw(1, 48, 16) / 4},
    ),
    "rnn": (
        "(float[6,2,40] x) => (float[6,1,2,32] y) { y = RNN <hidden_size = 32> (x, w, r) }",
        {"w": draw(1, 32, 40) / 4, "r": draw(1, 32, 32) / 4},
    ),
    "large addend": ("(float[b,64,80] x) => (float[b,64,80] y) { y = Add (x, w) }", {"w": draw(1, 64, 80)}),
    "einsum": (
        "(float[3,5,64] x) => (float[3,80,5] y) { y = Einsum <equation = \"ntc,cd->ndt\"> (x, w) }",
        {"w": draw(64, 80)},
    ),
}  # fmt: skip


def graph(text: str, constants: Mapping[str, Any], opset: int = 21) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> agraph {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    model = ir.from_proto(proto)
    for node in model.graph:
        node.name = f"{node.op_type.lower()}_{node.outputs[0].name}"
    infer_shapes(model)
    return Model(model, "weights")


def case(name: str) -> Model:
    return graph(*CASES[name])


def run(model: Model, feeds: Mapping[str, Any] | None = None) -> list[Any]:
    """Outputs; what ONNX Runtime makes a MatMulNBits of computes in float32 too."""
    options = session_options(TARGET)
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = OrtSession(create(model.to_proto().SerializeToString(), options, model.name), model.name)
    return list(session.run(feeds or tiny.feeds(model.ir)).values())


def every_weight(model: Model, choice: WeightOnly) -> Plan:
    nodes = [node for node in model.graph if weight_views(node)]
    return Plan({Site(node.name or "", node.op_type, "weight"): choice for node in nodes})


def applied(
    model: Model, choice: WeightOnly, target: Any = TARGET, rewrite: QuantizeWeights = EXACTLY
) -> tuple[Model, Outcome]:
    """The model with every weight in this format, checked for what every pass promises."""
    after = model.fork()
    outcome = assert_keeps_promises(after.ir, rewrite, PassContext(target, every_weight(model, choice)))
    return after, outcome


def rounded(matrix: Any, choice: WeightOnly) -> Any:
    """[out, in] on the grid of minmax, one group after the other: what the pass shall come to, written anew."""
    floor, ceiling = {
        (4, False): (0, 15), (4, True): (-8, 7), (8, False): (0, 255), (8, True): (-127, 127)
    }[choice.bits, choice.symmetric]  # fmt: skip
    group = choice.group or matrix.shape[1]
    result = np.empty_like(matrix)
    for row in range(len(matrix)):
        for start in range(0, matrix.shape[1], group):
            part = matrix[row, start : start + group].astype(np.float64)
            low, high = min(part.min(), 0.0), max(part.max(), 0.0)
            if choice.symmetric:
                exact, zero = max(low / floor, high / ceiling), 0
            else:
                exact = (high - low) / (ceiling - floor)
                zero = int(np.clip(np.rint(floor - low / np.float32(exact)), floor, ceiling))
            scale = np.float32(np.float16(np.float32(exact)))
            codes = np.clip(np.rint(part.astype(np.float32) / scale) + zero, floor, ceiling)
            result[row, start : start + group] = (codes - zero) * scale
    return result


def reference(model: Model, choice: WeightOnly, portable: bool = False) -> Model:
    """The float model whose weights were rounded by `rounded`."""
    fork = model.fork()
    for node in list(fork.graph):
        factor = node.attributes.get_float("alpha", 1.0) if node.op_type == "Gemm" else 1.0
        for view in weight_views(node):
            value = node.inputs[view.index]
            assert value is not None
            assert value.const_value is not None
            array = value.const_value.numpy()
            own_groups = replace(choice, group=stored(node, view, choice, portable=portable).group)
            numbers = view.back(rounded(view.matrix(array) * np.float32(factor), own_groups)).reshape(array.shape)
            own = f"{value.name}.of.{node.name}.{view.index}"
            node.replace_input_with(view.index, add_initializer(fork.graph, own, numbers / np.float32(factor)))
    return fork


def assert_computes_with_rounded_weights(model: Model, choice: WeightOnly, target: Any = TARGET) -> Model:
    after, outcome = applied(model, choice, target)
    assert outcome.changed
    assert not outcome.skipped
    tolerance = DEEP_FP32 if "Einsum" in {node.op_type for node in model.graph} else FP32
    reason = disagreement(run(reference(model, choice, target.portable)), run(after), tolerance)
    assert not reason, reason
    return after


@pytest.mark.parametrize("portable", [False, True], ids=["", "portable"])
@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", CASES)
def test_computes_with_the_rounded_weights(name: str, bits: int, symmetric: bool, portable: bool) -> None:
    choice = BITS[bits](group=16, symmetric=symmetric, weight_range="minmax")
    after = assert_computes_with_rounded_weights(case(name), choice, PORTABLE if portable else TARGET)
    assert not portable or all(node.domain == "" for node in after.graph)


@pytest.mark.parametrize("choice", [Weight8(group=16, weight_range="minmax"), Weight4(16, False, "minmax")], ids=str)
@pytest.mark.parametrize("name", tiny.all_graphs())
def test_every_tiny_graph_computes_with_its_rounded_weights(name: str, choice: WeightOnly) -> None:
    model = Model(tiny.all_graphs()[name](), name)
    clean(TARGET).run(model.ir, PassContext(TARGET))
    try:
        ensure_opset(model.ir, 21)
    except UnsupportedOpset:
        return
    infer_shapes(model.ir)
    after, outcome = applied(model, choice)
    assert {site.name for site in outcome.changed} == {node.name for node in model.graph if weight_views(node)}
    if name not in tiny.NOT_RUNNABLE:
        reason = disagreement(run(reference(model, choice)), run(after), DEEP_FP32)
        assert not reason, reason


@pytest.mark.parametrize("portable", [False, True], ids=["", "portable"])
@pytest.mark.parametrize("opset", [22, 23, 24])
@pytest.mark.parametrize("name", ["gemm", "matmul with bias", "conv", "embedding", "lstm"])
def test_newer_opsets_take_the_same_forms(name: str, opset: int, portable: bool) -> None:
    choice = Weight4(16, False, "minmax")
    assert_computes_with_rounded_weights(graph(*CASES[name], opset=opset), choice, PORTABLE if portable else TARGET)


SIZE = st.integers(1, 70)
FLAG = st.booleans()


@settings(max_examples=40, deadline=None)
@given(SIZE, SIZE, st.sampled_from([0, 5, 16, 32, 64]), st.sampled_from([4, 8]), FLAG, FLAG, FLAG, FLAG)
def test_products_of_any_size(
    inner: int, outer: int, group: int, bits: int, symmetric: bool, portable: bool, transposed: bool, biased: bool
) -> None:
    shape = (outer, inner) if transposed else (inner, outer)
    body = f"y = Gemm <transB = {int(transposed)}> (x, w{', b' if biased else ''})"
    model = graph(f"(float[3,{inner}] x) => (float[3,{outer}] y) {{ {body} }}", {"w": draw(*shape), "b": draw(outer)})
    choice = BITS[bits](group=group, symmetric=symmetric, weight_range="minmax")
    assert_computes_with_rounded_weights(model, choice, PORTABLE if portable else TARGET)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 9), FLAG, FLAG)
def test_convolutions_of_any_size(
    groups: int, ins: int, outs: int, kernel: int, group: int, symmetric: bool, transposed: bool
) -> None:
    shape = (groups * ins, outs, kernel) if transposed else (groups * outs, ins, kernel)
    op = "ConvTranspose" if transposed else "Conv"
    model = graph(
        f"(float[1,{groups * ins},5] x) => (float[1,{groups * outs},n] y) {{ y = {op} <group = {groups}> (x, w) }}",
        {"w": draw(*shape)},
    )
    assert_computes_with_rounded_weights(model, Weight4(group, symmetric, "minmax"))


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 9), st.integers(1, 5), st.integers(1, 20), st.sampled_from([4, 8]), FLAG)
def test_tables_of_any_size(entries: int, groups: int, size: int, bits: int, symmetric: bool) -> None:
    width = groups * size
    model = graph(f"(int64[b,c] x) => (float[b,c,{width}] y) {{ y = Gather (w, x) }}", {"w": draw(entries, width)})
    choice = BITS[bits](group=size, symmetric=symmetric, weight_range="minmax")
    assert_computes_with_rounded_weights(model, choice)


@pytest.mark.parametrize(
    ("name", "bits", "portable", "wanted"),
    [
        ("matmul with bias", 4, False, {"MatMulNBits"}),
        ("matmul with bias", 8, False, {"MatMulNBits"}),
        ("gemm, all attributes", 4, False, {"MatMulNBits"}),
        ("matmul with bias", 4, True, {"MatMulNBits"}),
        ("gemm", 4, True, {"MatMulNBits"}),
        ("gemm", 8, True, {"MatMulNBits"}),
        ("matmul of many rows", 4, False, {"MatMul"}),
        ("matmul of many rows", 8, True, {"MatMul"}),
        ("conv", 4, True, {"Conv"}),
        ("transposed conv", 4, True, {"ConvTranspose"}),
        ("lstm", 4, True, {"LSTM"}),
        ("large addend", 8, True, {"Add"}),
        ("gather along another axis", 4, True, {"Gather"}),
    ],
)
def test_is_executed_by_float_kernels_or_one_for_blocks(
    name: str, bits: int, portable: bool, wanted: set[str], tmp_path: Path
) -> None:
    after, _ = applied(case(name), BITS[bits](group=32), PORTABLE if portable else TARGET, QuantizeWeights())
    options = session_options(TARGET)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    create(after.to_proto().SerializeToString(), options, name)
    ops = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert ops - {"ReorderInput", "ReorderOutput"} == wanted


@pytest.mark.parametrize("portable", [False, True], ids=["", "portable"])
@pytest.mark.parametrize("name", CASES)
def test_every_offered_choice_loses_no_more_than_rounding_by_minmax(name: str, portable: bool) -> None:
    model = case(name)
    target = PORTABLE if portable else TARGET
    floating = run(model)[0]
    for site in find_sites(model, target):
        offered = [choice for choice in choices_at(model, site, target) if isinstance(choice, WeightOnly)]
        assert [choice.name for choice in offered] == ["w8", "w4"]
        for choice in offered:
            after = model.fork()
            EXACTLY.run(after.ir, PassContext(target, Plan({site: choice})))
            noise = np.square(run(after)[0] - floating).sum()
            assert 0 < noise <= 1.5 * np.square(run(reference(model, choice, portable))[0] - floating).sum()


def test_int8_activations_of_products_lose_little() -> None:
    model = case("matmul with bias")
    choice = Weight8(group=32, weight_range="minmax")
    exact, _ = applied(model, choice)
    fast, _ = applied(model, choice, rewrite=QuantizeWeights())
    wanted, found = run(exact)[0], run(fast)[0]
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum()) > 35


NAMES_AND_NODES = 700  # bytes of a file, for each node that is added


@pytest.mark.parametrize("portable", [False, True], ids=["", "portable"])
@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", CASES)
def test_takes_the_bytes_that_were_predicted(
    name: str, bits: int, symmetric: bool, portable: bool, tmp_path: Path
) -> None:
    model, target = case(name), PORTABLE if portable else TARGET
    choice = BITS[bits](group=32, symmetric=symmetric)
    after, _ = applied(model, choice, target)
    predicted = sum(weight_bytes(node, choice, target) for node in model.graph)
    tensors = [value.const_value for value in after.graph.initializers.values() if value.const_value is not None]
    small = sum(tensor.nbytes for tensor in tensors if tensor.dtype == ir.DataType.INT64 or tensor.size == 1)
    assert sum(tensor.nbytes for tensor in tensors) - small == predicted
    after.save(tmp_path / "after.onnx")
    assert 0 < (tmp_path / "after.onnx").stat().st_size - predicted < NAMES_AND_NODES * len(after.graph)


def test_float_constant_stays_for_other_readers() -> None:
    model = graph(
        "(float[4,32] x) => (float[4,32] y, float[4,32] z) { y = MatMul (x, w)\n z = MatMul (x, w) }",
        {"w": draw(32, 32)},
    )
    after = model.fork()
    EXACTLY.run(after.ir, PassContext(TARGET, Plan({Site("matmul_y", "MatMul", "weight"): Weight4()})))
    assert "w" in after.graph.initializers
    both, _ = applied(model, Weight4())
    assert "w" not in both.graph.initializers


@pytest.mark.parametrize("target", [TARGET, PORTABLE], ids=["", "portable"])
@pytest.mark.parametrize(
    ("op", "inputs", "shape"),
    [
        ("Conv", "float[1,32,8] x", (32, 32, 1)),
        ("MatMul", "float[8,32] x", (32, 32)),
        ("Gather", "int64[9] x", (32, 32)),
    ],
)
def test_weight_of_two_readers_is_stored_once(op: str, inputs: str, shape: tuple[int, ...], target: Any) -> None:
    order = "w, x" if op == "Gather" else "x, w"
    text = f"({inputs}) => (float y, float z) {{ y = {op} ({order})\n z = {op} ({order}) }}"
    model = graph(
        text.replace(
            "float y, float z", "float[a,b,c] y, float[d,e,f] z" if op == "Conv" else "float[a,b] y, float[c,d] z"
        ),
        {"w": draw(*shape)},
    )
    choice = Weight4(group=16, symmetric=False)
    after, _ = applied(model, choice, target)
    found = [
        name
        for name in after.graph.initializers
        if name.startswith("w.q") and name.split(".")[1] in ("q", "q_scale", "q_zero")
    ]
    tensors = [value.const_value for value in after.graph.initializers.values() if value.const_value is not None]
    large = sum(tensor.nbytes for tensor in tensors if tensor.dtype != ir.DataType.INT64 and tensor.size > 1)
    assert sorted(found) == ["w.q", "w.q_scale", "w.q_zero"]
    assert large == sum(weight_bytes(node, choice, target) for node in model.graph)


def test_weights_in_subgraphs_belong_to_the_node_that_holds_them() -> None:
    model = graph(
        """(float[4,32] x, bool p) => (float[4,32] y) {
            y = If (p) <then_branch = t () => (float[4,32] a) { a = MatMul (x, w) },
                        else_branch = e () => (float[4,32] b) { v = Mul (x, x)\n b = Gemm (v, w) }>
        }""",
        {"w": draw(32, 32)},
    )
    (site,) = [site for site in find_sites(model, TARGET) if site.op == "If"]
    choice = next(choice for choice in choices_at(model, site, TARGET) if choice.name == "w4")
    after = model.fork()
    assert EXACTLY.run(after.ir, PassContext(TARGET, Plan({site: choice}))).changed == (site,)
    assert "w" not in after.graph.initializers
    assert weight_bytes(model.graph[0], choice) == sum(
        value.const_value.nbytes
        for value in after.graph.initializers.values()
        if value.const_value is not None and value.const_value.dtype != ir.DataType.INT64
    )
    for branch in (True, False):
        feeds = {"x": draw(4, 32), "p": np.array(branch)}
        wanted, found = run(model, feeds)[0], run(after, feeds)[0]
        assert 15 < 10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum()) < 40


def test_rounding_by_the_gram_matrix_loses_less_at_the_output() -> None:
    rng = np.random.default_rng(3)
    mix = rng.standard_normal((64, 64)) * rng.random(64) ** 3
    inputs = (rng.standard_normal((256, 64)) @ mix).astype(np.float32)
    model = graph("(float[n,64] x) => (float[n,24] y) { y = MatMul (x, w) }", {"w": draw(64, 24)})
    site = Site("matmul_y", "MatMul", "weight")
    stats = {site: LayerStats((None, None), (None,), inputs.T.astype(np.float64) @ inputs / len(inputs))}
    noises = {}
    for rounding in ("nearest", "gptq"):
        after = model.fork()
        plan = Plan({site: Weight4(rounding=rounding)})
        EXACTLY.run(after.ir, PassContext(TARGET, plan, stats))
        noises[rounding] = np.square(run(after, {"x": inputs})[0] - run(model, {"x": inputs})[0]).sum()
    assert noises["gptq"] < 0.8 * noises["nearest"]


def test_rounding_without_statistics_names_the_site() -> None:
    model = case("matmul")
    plan = every_weight(model, Weight4(rounding="gptq"))
    with pytest.raises(BadPlan, match="'matmul_y' by 'gptq'"):
        QuantizeWeights().run(model.ir, PassContext(TARGET, plan))


def test_weights_too_large_for_half_precision_are_skipped_with_the_reason() -> None:
    model = graph("(float[4,32] x) => (float[4,32] y) { y = MatMul (x, w) }", {"w": draw(32, 32) * 1e9})
    _, outcome = applied(model, Weight8())
    assert [skip.reason for skip in outcome.skipped] == ["its weights are too large for scales in half precision"]


def test_tiny_weights_keep_their_relative_precision() -> None:
    model = graph("(float[4,32] x) => (float[4,32] y) { y = MatMul (x, w) }", {"w": draw(32, 32) * 1e-6})
    after, _ = applied(model, Weight8())
    wanted, found = run(model)[0], run(after)[0]
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum()) > 20


def test_node_without_weights_is_skipped_with_the_reason() -> None:
    model = graph("(float[4,4] x) => (float[4,4] y) { y = Relu (x) }", {})
    outcome = QuantizeWeights().run(model.ir, PassContext(TARGET, Plan({Site("relu_y", "Relu"): Weight8()})))
    assert [skip.reason for skip in outcome.skipped] == ["it reads no float32 constant that is worth it"]


def test_opset_below_21_is_refused() -> None:
    model = graph(*CASES["matmul"], opset=20)
    with pytest.raises(UnsupportedOpset, match="opset 20"):
        QuantizeWeights().run(model.ir, PassContext(TARGET, every_weight(model, Weight8())))


@pytest.mark.parametrize("name", ["gemm, all attributes", "conv whose groups are ragged", "lstm"])
def test_forks_share_solved_weights_with_whoever_solves_them_first(name: str) -> None:
    model, solved, choice = case(name), {}, Weight4()  # type: ignore[var-annotated]
    node = model.graph[0]
    for view in weight_views(node):
        kept = stored(node, view, choice, portable=False)
        site = Site(node.name or "", node.op_type, "weight")
        solved_weight(matrix_of(node, site, kept), replace(choice, group=kept.group), None, solved)
    count = len(solved)
    for _ in range(2):
        fork = model.fork()
        EXACTLY.run(fork.ir, PassContext(TARGET, every_weight(model, choice), solved=solved))
        assert len(solved) == count
