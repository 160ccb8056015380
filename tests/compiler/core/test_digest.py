"""Equal for equal computations, different for all others."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from lwc.compiler.core.digest import digest, tensor_digest

QUICK = settings(max_examples=60, deadline=None)
OPERATORS = ("Add", "Sub", "Mul", "Neg", "Relu", "Softmax", "If")

MODEL = """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
g (float[N, 3] x, bool c) => (float[N, 3] y, float[N, 3] z)
<float[3] w = {1.0, 2.0, 3.0}, float[3] v = {4.0, 5.0, 6.0}> {
    a = If (c) <
        then_branch = t () => (float[N, 3] p) { p = Add(x, w) },
        else_branch = e () => (float[N, 3] q) { k = Constant <value = float {2.0}> () q = Mul(x, k) }
    >
    y = Softmax <axis = 1> (a)
    d = Sub(y, v)
    z = f.scale <by = 3.0> (d)
}
<domain: "f", opset_import: ["" : 17]> scale <by> (u) => (r) {
    k = Constant <value_float: float = @by> ()
    r = Mul(u, k)
}"""


def of(proto: onnx.ModelProto) -> str:
    return digest(ir.from_proto(proto))


def of_text(text: str) -> str:
    return of(parser.parse_model(text))


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A random graph: each node reads from any before it, If from inside its branches."""
    names = ["x", "w0", "w1"]
    nodes = []
    for k in range(draw(st.integers(1, 12))):
        op_type = draw(st.sampled_from(OPERATORS))
        read = [draw(st.sampled_from(names)) for _ in range(2 if op_type in ("Add", "Sub", "Mul", "If") else 1)]
        out = f"v{k}"
        if op_type == "If":
            branches = {
                branch: helper.make_graph(
                    [helper.make_node("Neg", [name], [f"{out}.{branch}"])],
                    branch,
                    [],
                    [helper.make_tensor_value_info(f"{out}.{branch}", TensorProto.FLOAT, None)],
                )
                for branch, name in zip(("then_branch", "else_branch"), read, strict=True)
            }
            nodes.append(helper.make_node("If", ["c"], [out], **branches))
        else:
            attributes = {"axis": draw(st.integers(0, 1))} if op_type == "Softmax" else {}
            nodes.append(helper.make_node(op_type, read, [out], **attributes))
        names.append(out)
    weights = [numpy_helper.from_array(np.full(3, k, np.float32), f"w{k}") for k in range(2)]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, [2, 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def reads(node: onnx.NodeProto) -> set[str]:
    inner = (n for attribute in node.attribute for n in attribute.g.node)
    return set(node.input).union(*(reads(n) for n in inner))


def shuffled(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Another order in which the nodes can run, and another order of initializers."""
    rng = random.Random(seed)
    made_later = {name for node in proto.graph.node for name in node.output}
    waiting, order = list(proto.graph.node), []
    while waiting:
        node = rng.choice([node for node in waiting if not reads(node) & made_later])
        waiting.remove(node)
        made_later -= set(node.output)
        order.append(node)
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    weights = list(proto.graph.initializer)
    rng.shuffle(weights)
    del copy.graph.node[:], copy.graph.initializer[:]
    copy.graph.node.extend(order)
    copy.graph.initializer.extend(weights)
    return copy


def renamed(proto: onnx.ModelProto, rename: Callable[[str], str]) -> onnx.ModelProto:
    """Other names for all but the graph's inputs and outputs: values, weights, nodes, subgraphs, graph."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    fixed = {value.name for value in (*copy.graph.input, *copy.graph.output)}

    def new(name: str) -> str:
        return name if name in fixed or not name else rename(name)

    def visit(graph: onnx.GraphProto) -> None:
        graph.name = rename(graph.name)
        for tensor in graph.initializer:
            tensor.name = new(tensor.name)
        for value in (*graph.input, *graph.output):
            value.name = new(value.name)
        for node in graph.node:
            node.name = rename(node.name)
            node.input[:] = [new(name) for name in node.input]
            node.output[:] = [new(name) for name in node.output]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    visit(attribute.g)

    visit(copy.graph)
    return copy


@QUICK
@given(proto=graphs(), seed=st.integers(0, 1000))
def test_ignores_the_order_of_nodes(proto: onnx.ModelProto, seed: int) -> None:
    assert of(shuffled(proto, seed)) == of(proto)


@QUICK
@given(proto=graphs(), seed=st.integers(0, 1000))
def test_ignores_the_order_even_where_it_cannot_run(proto: onnx.ModelProto, seed: int) -> None:
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    nodes = list(proto.graph.node)
    random.Random(seed).shuffle(nodes)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    assert of(copy) == of(proto)


@QUICK
@given(proto=graphs())
def test_ignores_names_of_temporaries(proto: onnx.ModelProto) -> None:
    assert of(renamed(proto, lambda name: f"other/{name[::-1]}")) == of(proto)


@QUICK
@given(proto=graphs(), data=st.data())
def test_sees_another_operator(proto: onnx.ModelProto, data: st.DataObject) -> None:
    before = of(proto)
    node = proto.graph.node[data.draw(st.integers(0, len(proto.graph.node) - 1))]
    node.op_type = "Elu"
    assert of(proto) != before


@QUICK
@given(proto=graphs(), data=st.data())
def test_sees_another_edge(proto: onnx.ModelProto, data: st.DataObject) -> None:
    """An edge from a weight that no node reads otherwise."""
    proto.graph.initializer.append(numpy_helper.from_array(np.full(3, 9, np.float32), "fresh"))
    before = of(proto)
    node = proto.graph.node[data.draw(st.integers(0, len(proto.graph.node) - 1))]
    node.input[data.draw(st.integers(0, len(node.input) - 1))] = "fresh"
    assert of(proto) != before


@QUICK
@given(proto=graphs(), data=st.data())
def test_sees_another_weight(proto: onnx.ModelProto, data: st.DataObject) -> None:
    before = of(proto)
    tensor = proto.graph.initializer[data.draw(st.integers(0, 1))]
    array = numpy_helper.to_array(tensor).copy()
    array[data.draw(st.integers(0, 2))] += 1
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert of(proto) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("axis = 1", "axis = 0"),
        ("Softmax <axis = 1>", "Softmax"),
        ("Sub(y, v)", "Sub(v, y)"),
        ("Sub(y, v)", "Sub(a, v)"),
        ("Sub(y, v)", "Sub(y, w)"),
        ("{1.0, 2.0, 3.0}", "{1.0, 2.0, 3.5}"),
        ("Add(x, w)", "Add(w, x)"),
        ("Add(x, w)", "Add(x, v)"),
        ("float {2.0}", "float {2.5}"),
        ("by = 3.0", "by = 3.5"),
        ("r = Mul(u, k)", "r = Mul(k, u)"),
        ("r = Mul(u, k)", "r = Div(u, k)"),
        ("scale <by>", "scale <by: float = 1.0>"),
        ("scale <by>", "scale <by, unused>"),
        ('"" : 17, "f"', '"" : 18, "f"'),
        ('opset_import: ["" : 17]>', 'opset_import: ["" : 18]>'),
        ("(float[N, 3] x, bool c)", "(float[N, 4] x, bool c)"),
        ("(float[N, 3] x, bool c)", "(float16[N, 3] x, bool c)"),
        ("(float[N, 3] x, bool c)", "(bool c, float[N, 3] x)"),
        ("(float[N, 3] y, float[N, 3] z)", "(float[N, 3] z, float[N, 3] y)"),
        ("(float[N, 3] y, float[N, 3] z)", "(float[N, 3] z)"),
        ("d = Sub(y, v)", "d = Sub(y, v) dead = Neg(d)"),
        ("d = Sub(y, v)", "d = Sub(y, v) dead = Sub(y, v)"),
    ],
)
def test_sees_what_computes_otherwise(old: str, new: str) -> None:
    assert MODEL.count(old) >= 1
    assert of_text(MODEL.replace(old, new, 1)) != of_text(MODEL)


def test_sees_the_names_that_callers_use() -> None:
    assert of_text(MODEL.replace("x", "input")) != of_text(MODEL)
    assert of_text(MODEL.replace(" z", " result")) != of_text(MODEL)


@pytest.mark.parametrize(("old", "new"), [("u", "first"), ("r", "second"), ("p", "third"), ("k", "fourth")])
def test_ignores_names_inside_functions_and_branches(old: str, new: str) -> None:
    text = re.sub(rf"\b{old}\b", new, MODEL)
    assert text != MODEL
    assert of_text(text) == of_text(MODEL)


def test_ignores_metadata_and_shapes_between_nodes() -> None:
    proto = parser.parse_model(MODEL)
    before = of(proto)
    proto.doc_string = "documented"
    proto.graph.node[0].metadata_props.add(key="layer", value="one")
    proto.graph.value_info.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, ["N", 3]))
    assert of(proto) == before


@pytest.mark.parametrize(("dtype", "other"), [(np.float32, np.int32), (np.int64, np.float64)])
def test_sees_the_type_of_equal_bytes(dtype: type[np.generic], other: type[np.generic]) -> None:
    array = np.arange(4).astype(dtype)
    assert tensor_digest(ir.tensor(array)) != tensor_digest(ir.tensor(array.view(other)))


def test_sees_the_shape_of_equal_bytes() -> None:
    array = np.arange(4)
    assert tensor_digest(ir.tensor(array)) != tensor_digest(ir.tensor(array.reshape(2, 2)))


def test_equal_values_have_one_digest_however_they_are_held() -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    held = [
        ir.Tensor(array),
        ir.Tensor(np.asfortranarray(array)),
        ir.Tensor(np.repeat(array, 2, axis=0)[::2]),
        ir.from_proto(numpy_helper.from_array(array)),
        ir.from_proto(helper.make_tensor("t", TensorProto.FLOAT, [4, 6], array.ravel())),
        ir.LazyTensor(lambda: ir.Tensor(array), dtype=ir.DataType.FLOAT, shape=ir.Shape([4, 6])),
    ]
    assert len({tensor_digest(tensor) for tensor in held}) == 1


def test_packed_and_unpacked_four_bit_values_have_one_digest() -> None:
    codes = np.array([1, -2, 3], np.int8)
    packed = ir.PackedTensor(np.array([0xE1, 0x03], np.uint8), ir.DataType.INT4, shape=ir.Shape([3]))
    assert tensor_digest(packed) == tensor_digest(ir.Tensor(codes, ir.DataType.INT4))


def test_strings_differ_by_their_text() -> None:
    tensors = [ir.tensor(texts) for texts in (["ab", "c"], ["a", "bc"], ["ab", "c"])]
    digests = [tensor_digest(tensor) for tensor in tensors]
    assert digests[0] == digests[2] != digests[1]


def test_a_replaced_tensor_is_not_taken_for_the_one_before() -> None:
    """A new tensor may get the address of one that is gone."""
    seen = {tensor_digest(ir.tensor(np.array([k]))) for k in range(100)}
    assert len(seen) == 100


def test_a_float_in_memory_equals_the_float_in_a_file() -> None:
    def model() -> ir.Model:
        x = ir.val("x", ir.DataType.FLOAT, [2])
        node = ir.node("Elu", [x], attributes={"alpha": 0.1}, outputs=[ir.val("y", ir.DataType.FLOAT, [2])])
        graph = ir.Graph([x], node.outputs, nodes=[node], name="g", opset_imports={"": 17})
        return ir.Model(graph, ir_version=8)

    stored = onnx.ModelProto.FromString(ir.to_proto(model()).SerializeToString())
    assert of(stored) == digest(model())


def test_a_cycle_has_a_digest_too() -> None:
    assert of_text(MODEL.replace("d = Sub(y, v)", "d = Sub(e, v) e = Neg(d)"))
