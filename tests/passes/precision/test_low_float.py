"""Conversion to fp16 and bf16 is correct by construction, casts little, and keeps in float what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.digest import digest
from lwc.compiler.core.pass_ import Outcome, PassContext, Pipeline
from lwc.compiler.core.plan import BFloat16, Choice, Float16, Plan, Range, Site, StaticInt8
from lwc.compiler.core.stats import LayerStats, TensorStats
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import (
    BF16,
    FP16,
    Tolerance,
    assert_keeps_promises,
    assert_valid,
    disagreement,
    draw_feeds,
    parse,
    run_onnxruntime,
    widened,
)
from lwc.models import tiny
from lwc.models.tiny.text import graph
from lwc.passes import clean
from lwc.passes.precision.float_types import conversion
from lwc.passes.precision.low_float import ConvertFloats
from lwc.passes.precision.static_int8 import QuantizeStatic

GPU = replace(NAMED["cpu:x86-64-v4"], name="gpu", device="cuda")
GRAPHS = tiny.all_graphs()
FORMATS: dict[str, tuple[Choice, Tolerance]] = {"fp16": (Float16(), FP16), "bf16": (BFloat16(), BF16)}
# The mask's steps of 10^4 drown the scores.
TOO_COARSE = {"attention_block_masked"}
ONE_STEP = {"conv_qdq": Tolerance("one of its quantization steps", 0.01, 0.0)}
# ONNX Runtime (1.31) makes one MaxPool that pads with -inf of a Pad with zeros and a MaxPool: its float32 is wrong.
WRONG_IN_FLOAT = {"pad_max_pool"}
CHAIN = """(float[2,4] x) => (float[4,2] y) <float[4,4] a, float[4,4] b>
    { h = MatMul(x, a) r = Relu(h) m = MatMul(r, b) t = Transpose(m) y = Softmax(t) }"""


def named(model: ir.Model) -> ir.Model:
    """Every node has the name of its first output."""
    for each in model.graphs():
        for node in each:
            node.name = node.name or node.outputs[0].name
    return model


def weighted(text: str) -> ir.Model:
    """A model from text; declared weights without numbers are drawn."""
    model = named(graph(text)())
    infer_shapes(model)
    return model


def plan(model: ir.Model, choice: Choice, *names: str) -> Plan:
    """The choice at the nodes of these names; at all when none is given."""
    return Plan({Site(n.name or "", n.op_type): choice for n in model.graph if not names or n.name in names})


def convert(model: ir.Model, choice: Choice, *names: str, **fields: Any) -> Outcome:
    context = PassContext(GPU, plan(model, choice, *names), **fields)
    outcome = assert_keeps_promises(model, ConvertFloats(), context)
    assert_valid(model)
    return outcome


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for each in model.graphs() for node in each)


def dtype_of(model: ir.Model, node: str) -> str:
    """Of the first output of a node, by the node's name."""
    found = next(n for each in model.graphs() for n in each if n.name == node)
    dtype = found.outputs[0].dtype
    assert dtype is not None
    return dtype.name


def reasons(outcome: Outcome) -> dict[str, str]:
    return {skip.site.name: skip.reason for skip in outcome.skipped}


def stats_of(low: float, high: float) -> TensorStats:
    return TensorStats(8, low, high, 0.0, 1.0, np.zeros(1, np.int64), np.zeros(2))


def measured(model: ir.Model, feeds: Mapping[str, Any]) -> dict[Site, LayerStats]:
    """Minimum and maximum of the float32 outputs of every node of the main graph."""
    tapped = model.clone()
    infer_shapes(tapped)
    floats = ir.TensorType(ir.DataType.FLOAT)
    seen = {v.name: v for node in tapped.graph for v in node.outputs if v.name and v.type == floats}
    kept = {value.name for value in tapped.graph.outputs}
    tapped.graph.outputs.extend(value for name, value in seen.items() if name not in kept)
    found = run_onnxruntime(ir.to_proto(tapped), feeds)
    arrays = {v.name: np.asarray(a) for v, a in zip(tapped.graph.outputs, found, strict=True) if v.name in seen}
    return {
        Site(node.name or "", node.op_type): LayerStats(
            (),
            tuple(
                stats_of(float(arrays[v.name].min()), float(arrays[v.name].max()))
                if v.name in arrays and arrays[v.name].size
                else None
                for v in node.outputs
            ),
        )
        for node in model.graph
    }


def assert_close(before: ir.Model, after: ir.Model, tolerance: Tolerance) -> None:
    feeds = draw_feeds(before)
    results = [run_onnxruntime(ir.to_proto(model), feeds) for model in (before, widened(after))]
    for a, b in zip(*results, strict=True):
        assert not disagreement(a, b, tolerance)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_tiny_model_stays_valid_and_computes_nearly_the_same(name: str, format_: str) -> None:
    choice, tolerance = FORMATS[format_]
    before = GRAPHS[name]()
    clean(GPU).run(before, PassContext(GPU))
    after, feeds = before.clone(), tiny.feeds(before)
    runs_here = name not in tiny.NOT_RUNNABLE
    convert(after, choice, stats=measured(before, feeds) if runs_here else {})
    if runs_here and name not in {*WRONG_IN_FLOAT, *TOO_COARSE}:
        tolerance = ONE_STEP.get(name, tolerance)
        wanted = run_onnxruntime(ir.to_proto(before), feeds)
        runs = [after, widened(after)] if format_ == "fp16" else [widened(after)]
        for model in runs:
            for a, b in zip(wanted, run_onnxruntime(ir.to_proto(model), feeds), strict=True):
                assert not disagreement(a, b, tolerance)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_tiny_model_stays_valid_when_inputs_and_outputs_are_converted(name: str, format_: str) -> None:
    model = GRAPHS[name]()
    clean(GPU).run(model, PassContext(GPU))
    context = PassContext(GPU, plan(model, FORMATS[format_][0]))
    first = ConvertFloats(keep_io=False).run(model, context)
    assert_valid(model)
    converted = digest(model)
    assert not ConvertFloats(keep_io=False).run(model, context).changed
    assert digest(model) == converted
    assert {site.name for site in first.changed} | {skip.site.name for skip in first.skipped} == {
        site.name for site in context.plan.choices
    }


def test_a_chain_is_cast_once_in_and_once_out() -> None:
    before = weighted(CHAIN)
    after = before.clone()
    outcome = convert(after, Float16(), "h", "m")
    assert len(outcome.changed) == 2
    assert ops(after)["Cast"] == 2
    assert [dtype_of(after, name) for name in ("h", "r", "m")] == ["FLOAT16"] * 3
    assert dtype_of(after, "t") == "FLOAT"
    assert_close(before, after, FP16)


def test_what_is_converted_whole_has_casts_at_its_ends_alone() -> None:
    model = weighted(CHAIN)
    convert(model, Float16())
    assert ops(model)["Cast"] == 2
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.FLOAT] * 2


def test_converted_inputs_and_outputs_need_no_casts() -> None:
    model = weighted(CHAIN)
    ConvertFloats(keep_io=False).run(model, PassContext(GPU, plan(model, Float16())))
    assert_valid(model)
    assert ops(model)["Cast"] == 0
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.FLOAT16] * 2
    assert [v.name for v in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y"]


def test_an_input_that_is_also_read_as_float_stays_float() -> None:
    model = weighted("""(float[2,4] x) => (float[2,4] y, float[2,4] z) <float[4,4] a>
        { y = MatMul(x, a) z = Exp(x) }""")
    ConvertFloats(keep_io=False).run(model, PassContext(GPU, plan(model, Float16(), "y")))
    assert_valid(model)
    assert model.graph.inputs[0].dtype == ir.DataType.FLOAT
    assert ops(model)["Cast"] == 1


def test_a_value_that_many_read_is_cast_once() -> None:
    model = weighted("""(float[2,4] x) => (float[2,4] y) <float[4,4] a, float[4,4] b, float[4,4] c>
        { p = MatMul(x, a) q = MatMul(x, b) r = MatMul(x, c) s = Exp(p) t = Exp(q) u = Exp(r) y = Sum(s, t, u) }""")
    convert(model, Float16(), "p", "q", "r")
    assert ops(model)["Cast"] == 1 + 3


def test_a_result_that_many_read_as_float_is_cast_once() -> None:
    model = weighted("""(float[2,4] x) => (float[2,4] h, float[2,4] y) <float[4,4] a>
        { h = MatMul(x, a) s = Exp(h) t = Sin(h) y = Add(s, t) }""")
    convert(model, Float16(), "h")
    assert ops(model)["Cast"] == 2


def test_a_diamond_in_one_format_needs_no_casts_inside() -> None:
    model = weighted("""(float[2,4] x) => (float[2,4] y) <float[4,4] a>
        { h = MatMul(x, a) l = Sigmoid(h) r = Neg(h) s = Add(l, r) y = Exp(s) }""")
    convert(model, BFloat16(), "h", "l", "s")
    assert dtype_of(model, "r") == "BFLOAT16"
    assert ops(model)["Cast"] == 2


def test_between_two_formats_there_is_one_cast() -> None:
    before = weighted(CHAIN)
    after = before.clone()
    choices = {Site("h", "MatMul"): Float16(), Site("m", "MatMul"): BFloat16()}
    assert_keeps_promises(after, ConvertFloats(), PassContext(GPU, Plan(choices)))
    assert_valid(after)
    assert ops(after)["Cast"] == 3
    assert_close(before, after, BF16)


def test_a_split_of_which_most_is_read_as_float_stays_float() -> None:
    model = weighted("""(float[4,4] x) => (float[1,4] y, float[1,4] p, float[1,4] q, float[1,4] r)
        <float[4,4] a, float[4,4] b>
        { h = MatMul(x, a) s0, s1, s2, s3 = Split(h) y = MatMul(s0, b)
          p = Exp(s1) q = Exp(s2) r = Exp(s3) }""")
    convert(model, Float16(), "h", "y")
    assert dtype_of(model, "s0") == "FLOAT"


def test_casts_that_the_model_has_already_are_used() -> None:
    model = weighted("""(float16[2,4] x) => (float16[2,4] y) <float[4,4] a>
        { f = Cast <to = 1> (x) h = MatMul(f, a) g = Cast <to = 10> (h) y = Neg(g) }""")
    convert(model, Float16(), "h")
    assert ops(model) == {"MatMul": 1, "Neg": 1}


def test_the_float_view_of_a_value_keeps_its_name() -> None:
    model = weighted("(float[2,4] x) => (float[2,4] y) <float[4,4] a> { h = MatMul(x, a) y = Exp(h) }")
    convert(model, Float16(), "h")
    reader = next(node for node in model.graph if node.op_type == "Exp")
    assert reader.inputs[0] is not None
    assert (reader.inputs[0].name, reader.inputs[0].dtype) == ("h", ir.DataType.FLOAT)


def test_a_shared_weight_is_converted_once_and_the_float_one_goes() -> None:
    model = weighted("(float[2,4] x) => (float[2,4] y) <float[4,4] a> { h = MatMul(x, a) y = MatMul(h, a) }")
    convert(model, Float16())
    assert [value.dtype for value in model.graph.initializers.values()] == [ir.DataType.FLOAT16]


def test_forks_share_converted_weights() -> None:
    memo: dict[Any, Any] = {}
    arrays = []
    source = weighted(CHAIN)
    for _ in range(2):
        fork = source.clone()
        convert(fork, Float16(), solved=memo)
        tensor = fork.graph.initializers["a.f16"].const_value
        assert tensor is not None
        arrays.append(tensor.numpy())
    assert np.shares_memory(*arrays)


def test_activations_beyond_the_format_keep_their_node_in_float() -> None:
    for high, fits in ((30_000.0, True), (40_000.0, False)):  # 65504 with a headroom of 2
        model = weighted(CHAIN)
        layer = LayerStats((stats_of(-1.0, 1.0), None), (stats_of(-5.0, high),))
        outcome = convert(model, Float16(), "h", "m", stats={Site("h", "MatMul"): layer})
        assert ("h" not in reasons(outcome)) == fits
        assert dtype_of(model, "h") == ("FLOAT16" if fits else "FLOAT")
        if not fits:
            assert "reaches 4e+04" in reasons(outcome)["h"]
        wide = weighted(CHAIN)
        assert not reasons(convert(wide, BFloat16(), "h", "m", stats={Site("h", "MatMul"): layer}))


@pytest.mark.parametrize(("number", "kept"), [("1e6", "beyond float16"), ("1e-12", "which is zero in float16")])
def test_constants_that_the_format_cannot_hold_keep_their_node_in_float(number: str, kept: str) -> None:
    model = named(parse(f"agraph (float[4] x) => (float[4] y) <float c = {{{number}}}> {{ s = Add(x, c) y = Exp(s) }}"))
    assert kept in reasons(convert(model, Float16(), "s"))["s"]


def test_infinite_constants_fit() -> None:
    model = named(parse("agraph (bool[4] m, float[4] x) => (float[4] y) { y = Where(m, x, c) }"))
    value = ir.Value(name="c", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([]))
    value.const_value = ir.tensor(np.array(-np.inf, np.float32), name="c")
    model.graph.register_initializer(value)
    model.graph[0].replace_input_with(2, value)
    assert convert(model, Float16()).changed


def test_inputs_that_must_be_float_stay_float() -> None:
    model = weighted("""(float[1,2,4,4] x) => (float[1,2,8,8] y)
        <float[8] roi = {0,0,0,0,1,1,1,1}, float[4] scales = {1,1,2,2}>
        { y = Resize <mode = "linear"> (x, roi, scales) }""")
    convert(model, Float16())
    assert {name: value.dtype for name, value in model.graph.initializers.items()} == {
        "roi": ir.DataType.FLOAT,
        "scales": ir.DataType.FLOAT,
    }
    assert dtype_of(model, "y") == "FLOAT16"


def test_outputs_that_are_float_in_any_format_stay_float() -> None:
    model = weighted("""(float[2,4] x) => (float[2,4] y, float[2,1] m) <float[4] g>
        { y, m, d = LayerNormalization(x, g) }""")
    convert(model, Float16())
    assert [v.dtype for v in next(n for n in model.graph if n.name == "y").outputs][1:] == [ir.DataType.FLOAT] * 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("agraph (float[4] x) => (int64[1] y) { y = Shape(x) }", "Shape"),
        ("agraph (int64[4] x) => (int64[4] y) { y = Neg(x) }", "it reads no float32"),
        ("agraph (float[4] x) => (float[4] y) { y = com.example.Mystery(x) }", "ONNX does not define the types"),
        ("agraph (float[4] x) => (uint8[4] y) { y, s, z = DynamicQuantizeLinear(x) }", "takes no float16"),
        ("agraph (float[4] x) => (int64[4] y) { y = Cast <to = 7> (x) }", "it casts between other types"),
        ("agraph (float[1,1,2,2] x, float[1,2,2,2] g) => (float[1,1,2,2] y) { y = GridSample(x, g) }", "no runtime"),
    ],
)
def test_nodes_that_cannot_be_converted_say_why(text: str, reason: str) -> None:
    model = named(parse(text))
    before = digest(model)
    found = ConvertFloats().run(model, PassContext(GPU, plan(model, Float16())))
    if reason == "Shape":
        assert dtype_of(model, "y") == "INT64"
    else:
        assert reason in found.skipped[0].reason
        assert digest(model) == before


def test_a_site_that_is_not_there_is_named() -> None:
    model = weighted(CHAIN)
    outcome = ConvertFloats().run(model, PassContext(GPU, Plan({Site("gone", "Conv"): Float16()})))
    assert reasons(outcome) == {"gone": "the main graph has no node of this name"}


def test_bfloat16_stays_float_where_no_runtime_computes_it() -> None:
    model = weighted(CHAIN)
    outcome = ConvertFloats().run(model, PassContext(NAMED["cpu:x86-64-v4"], plan(model, BFloat16(), "h")))
    assert reasons(outcome) == {"h": "no runtime computes MatMul in bfloat16 on cpu"}


@pytest.mark.parametrize("format_", FORMATS)
def test_a_format_by_hint_is_left_to_the_mark(format_: str) -> None:
    model = weighted(CHAIN)
    target = replace(GPU, bf16_by_hint=format_ == "bf16", fp16_by_hint=format_ == "fp16")
    for other, (choice, _) in FORMATS.items():
        context = PassContext(target, plan(model, choice))
        assert (ConvertFloats().run(model.clone(), context) == Outcome()) == (other == format_)


@pytest.mark.parametrize("name", ["if_of_input", "if_nested", "loop_of_count", "loop_that_collects", "scan"])
def test_a_site_with_subgraphs_converts_what_is_in_them(name: str) -> None:
    before = named(GRAPHS[name]())
    infer_shapes(before)
    after = before.clone()
    holder = next(node.name or "" for node in after.graph if node.op_type in ("If", "Loop", "Scan"))
    outcome = convert(after, Float16(), holder)
    assert [site.name for site in outcome.changed] == [holder]
    inner = [node for each in list(after.graphs())[1:] for node in each]
    assert any(node.outputs[0].dtype == ir.DataType.FLOAT16 for node in inner)
    feeds = tiny.feeds(before)
    for a, b in zip(*(run_onnxruntime(ir.to_proto(m), feeds) for m in (before, after)), strict=True):
        assert not disagreement(a, b, FP16)


def test_what_a_loop_reads_from_outside_is_cast_outside() -> None:
    model = named(GRAPHS["loop_that_collects"]())
    infer_shapes(model)
    convert(model, Float16(), "y")
    main, body = model.graphs()
    assert [node.inputs[0].name for node in main if node.op_type == "Cast" and node.inputs[0] is not None] == ["x"]
    assert "b.f16" in main.initializers
    assert all(node.inputs[0] is not None and node.inputs[0].name != "x" for node in body)


def test_a_loop_that_is_no_site_reads_float() -> None:
    model = weighted("""(float[2,4] x) => (float[2,4] y) <int64 n = {3}, bool go = {1}, float[4,4] a>
        { h = MatMul(x, a)
          y = Loop (n, go, x) <body = step (int64 i, bool on, float[2,4] s) => (bool more, float[2,4] t)
            { more = Identity(on) t = Add(s, h) }> }""")
    convert(model, Float16(), "h")
    assert dtype_of(model, "t") == "FLOAT"
    assert ops(model)["Cast"] == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_int8_and_fp16_sites_stand_side_by_side(order: tuple[int, int]) -> None:
    before = weighted("""(float[1,8,6,6] x) => (float[1,8,2,2] y) <float[8,8,3,3] a, float[8,8,3,3] b>
        { h = Conv(x, a) r = Relu(h) y = Conv(r, b) }""")
    ranges = {"x": Range(-4, 4), "r": Range(0, 6), "y": Range(-6, 6)}
    for first, second in (("h", "y"), ("y", "h")):
        after = before.clone()
        choices: dict[Site, Choice] = {Site(first, "Conv"): StaticInt8(), Site(second, "Conv"): Float16()}
        steps = (QuantizeStatic(), ConvertFloats())
        outcome = Pipeline(tuple(steps[k] for k in order)).run(after, PassContext(GPU, Plan(choices, ranges)))
        assert not outcome.skipped
        assert {site.name for site in outcome.changed} == {"h", "y"}
        assert_valid(after)
        assert_close(before, after, Tolerance("int8", 0.1, 0.1))


UNARY = ("Relu", "Sigmoid", "Tanh", "Neg", "Transpose", "Identity", "Abs")
BINARY = ("Add", "Sub", "Mul", "MatMul", "Max", "Min")
STEPS = st.lists(
    st.tuples(st.sampled_from((*UNARY, *BINARY)), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12
)
CHOSEN = st.lists(st.sampled_from([None, Float16(), BFloat16()]), min_size=12, max_size=12)


@settings(max_examples=60, deadline=None)
@given(STEPS, CHOSEN, st.lists(st.integers(0, 11), max_size=3), st.booleans())
def test_random_graphs_stay_valid_and_cast_each_value_once_per_format(
    steps: list[tuple[str, int, int]], chosen: list[Choice | None], also_out: list[int], keep_io: bool
) -> None:
    names, lines = ["x", "z", "a"], []
    for k, (op, first, second) in enumerate(steps):
        inputs = [names[first % len(names)], names[second % len(names)]][: 1 if op in UNARY else 2]
        lines.append(f"v{k} = {op}({', '.join(inputs)})")
        names.append(f"v{k}")
    outputs = sorted({len(steps) - 1, *(k for k in also_out if k < len(steps))})
    made = ", ".join(f"float[4,4] v{k}" for k in outputs)
    before = weighted(f"(float[4,4] x, float[4,4] z) => ({made}) <float[4,4] a> {{ {' '.join(lines)} }}")
    choices = {Site(f"v{k}", op): c for k, ((op, _, _), c) in enumerate(zip(steps, chosen, strict=False)) if c}
    after, context = before.clone(), PassContext(GPU, Plan(choices))
    unchanged = digest(after)
    outcome = ConvertFloats(keep_io=keep_io).run(after, context)
    assert bool(outcome.changed) == (digest(after) != unchanged)
    assert_valid(after)
    converted = digest(after)
    assert not ConvertFloats(keep_io=keep_io).run(after, context).changed
    assert digest(after) == converted
    casts = [(n.inputs[0], n.outputs[0].dtype) for n in after.graph if n.op_type == "Cast"]
    assert len(casts) == len(set(casts))
    for value, dtype in casts:
        producer = None if value is None else value.producer()
        assert value is not None
        assert value.dtype != dtype
        assert producer is None or producer.op_type != "Cast"


def test_a_type_that_is_not_known_is_a_reason() -> None:
    model = named(parse("agraph (float[4] x) => (float[4] y) { h = Exp(x) y = Exp(h) }"))
    model.graph[0].outputs[0].type = None
    found = conversion(model.graph[1], model.opset_imports, ir.DataType.FLOAT16)
    assert found == "the type of its input 'h' is unknown"
