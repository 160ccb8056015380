"""Old nodes mean the same after their opset is raised: outputs agree in ONNX Runtime, whose optimizer is off."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

from lwc.compiler.core.check import check_proto
from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.external import DataFolder
from lwc.compiler.core.opset import NEWEST, ensure_opset
from lwc.compiler.core.opset_adapters import ADAPTERS

Array = NDArray[Any]
RUNS_IN_RUNTIME = 21  # the newest that ONNX Runtime has every one of these operators in
FLOAT = {"rtol": 1e-5, "atol": 1e-6}  # sums in another order

IMAGE = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)
ROWS = IMAGE.reshape(4, 72)


def model(
    op_type: str, opset: int, inputs: list[Array | None], outputs: int = 1, shapes: bool = True, **attributes: Any
) -> onnx.ModelProto:
    """One node; the first input is the graph's x, the others are initializers."""
    names = ["x" if k == 0 else f"w{k}" if array is not None else "" for k, array in enumerate(inputs)]
    first = inputs[0]
    assert first is not None
    x = helper.make_tensor_value_info(
        "x", helper.np_dtype_to_tensor_dtype(first.dtype), first.shape if shapes else [None] * first.ndim
    )
    weights = [numpy_helper.from_array(a, n) for n, a in zip(names[1:], inputs[1:], strict=True) if a is not None]
    results = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op_type, names, results, name="n", **attributes)
    infos = [onnx.ValueInfoProto(name=name) for name in results]
    graph = helper.make_graph([node], "g", [x], infos, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return typed(proto)


def typed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With the types of outputs, which a graph must name."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    for value, found in zip(proto.graph.output, inferred.graph.output, strict=True):
        value.type.tensor_type.elem_type = found.type.tensor_type.elem_type or TensorProto.FLOAT
    return proto


def run(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, feeds)]


def raised(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    converted = ir.from_proto(proto)
    ensure_opset(converted, opset)
    result = ir.to_proto(converted)
    assert check_proto(result, "model", {}, DataFolder(None))
    return result


def assert_same_when_raised(proto: onnx.ModelProto, feeds: dict[str, Array], opset: int) -> onnx.ModelProto:
    after = raised(proto, opset)
    assert {entry.domain: entry.version for entry in after.opset_import}[""] == opset
    for want, got in zip(run(proto, feeds), run(after, feeds), strict=True):
        assert want.dtype == got.dtype
        np.testing.assert_allclose(got, want, **(FLOAT if want.dtype.kind == "f" else {"rtol": 0}))
    return after


def scalar(value: float, dtype: type[np.generic] = np.float32) -> Array:
    return np.array(value, dtype)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


STATISTICS: list[Array | None] = [floats(1, 2, 3, 4), floats(0, 1, 0, 1), floats(0, 0, 1, 1), floats(1, 2, 1, 2)]
ROI: list[Array | None] = [floats(0, 0, 4, 4, 1, 1, 5, 5).reshape(2, 4), ints(0, 1)]
GRID = np.random.default_rng(1).uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32)

# operator, its opset, inputs, number of outputs, attributes
CASES: dict[str, tuple[str, int, list[Array | None], int, dict[str, Any]]] = {
    "Clip": ("Clip", 7, [IMAGE], 1, {"min": -0.5, "max": 0.5}),
    "Clip without max": ("Clip", 9, [IMAGE], 1, {"min": 0.0}),
    "Clip without limits": ("Clip", 10, [IMAGE], 1, {}),
    "Pad": ("Pad", 7, [IMAGE], 1, {"pads": [0, 0, 1, 2, 0, 0, 3, 0]}),
    "Pad with a value": ("Pad", 10, [IMAGE], 1, {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 1.5}),
    "Pad by reflection": ("Pad", 7, [IMAGE], 1, {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "mode": "reflect"}),
    "Slice": ("Slice", 9, [IMAGE], 1, {"starts": [1, -3], "ends": [3, 1000], "axes": [1, 3]}),
    "Slice without axes": ("Slice", 7, [IMAGE], 1, {"starts": [1, 1], "ends": [2, 3]}),
    "TopK": ("TopK", 7, [ROWS], 2, {"k": 5}),
    "TopK along an axis": ("TopK", 9, [IMAGE], 2, {"k": 2, "axis": 1}),
    "TopK with k as input": ("TopK", 10, [IMAGE, ints(3)], 2, {"axis": 2}),
    "Dropout": ("Dropout", 7, [IMAGE], 1, {"ratio": 0.3}),
    "Dropout 10": ("Dropout", 10, [IMAGE], 1, {}),
    "BatchNormalization": ("BatchNormalization", 7, [IMAGE, *STATISTICS], 1, {"epsilon": 1e-3, "spatial": 1}),
    "BatchNormalization 9": ("BatchNormalization", 9, [IMAGE, *STATISTICS], 1, {"momentum": 0.8}),
    "Upsample nearest": ("Upsample", 7, [IMAGE], 1, {"scales": [1.0, 1.0, 2.0, 3.0]}),
    "Upsample linear": ("Upsample", 8, [IMAGE], 1, {"scales": [1.0, 1.0, 2.0, 1.5], "mode": "linear"}),
    "Upsample with scales as input": ("Upsample", 9, [IMAGE, floats(1, 1, 2.5, 2)], 1, {"mode": "nearest"}),
    "Resize up": ("Resize", 10, [IMAGE, floats(1, 1, 1.7, 2.3)], 1, {"mode": "nearest"}),
    "Resize down": ("Resize", 10, [IMAGE, floats(1, 1, 0.6, 0.4)], 1, {"mode": "nearest"}),
    "Resize linear": ("Resize", 10, [IMAGE, floats(1, 1, 1.7, 0.4)], 1, {"mode": "linear"}),
    "Resize 11": ("Resize", 11, [IMAGE, np.empty(0, np.float32), floats(1, 1, 2, 0.5)], 1, {"mode": "cubic"}),
    "Squeeze": ("Squeeze", 7, [IMAGE[:1, :, :1]], 1, {"axes": [0, 2]}),
    "Squeeze all": ("Squeeze", 11, [IMAGE[:1, :, :1]], 1, {}),
    "Unsqueeze": ("Unsqueeze", 7, [ROWS], 1, {"axes": [0, 3]}),
    "Unsqueeze at the end": ("Unsqueeze", 11, [ROWS], 1, {"axes": [-1]}),
    "Split": ("Split", 7, [IMAGE], 2, {"axis": 1, "split": [1, 3]}),
    "Split equally": ("Split", 7, [IMAGE], 2, {"axis": 1}),
    "Split 13": ("Split", 13, [IMAGE, ints(1, 3)], 2, {"axis": 1}),
    "Split 13 equally": ("Split", 13, [IMAGE], 2, {"axis": 2}),
    **{
        f"{kind}{axis}{shape}": (kind, opset, [IMAGE.reshape(shape)], 1, {} if axis is None else {"axis": axis})
        for kind, opset in (("Softmax", 7), ("LogSoftmax", 11), ("Hardmax", 9))
        for axis, shape in (
            *((None, (2, 4, 6, 6)), (0, (2, 4, 6, 6)), (2, (2, 4, 36)), (1, (2, 144, 1, 1)), (2, (2, 144, 1, 1))),
            *((0, (288,)), (1, (8, 36))),
        )
    },
    "Softmax along the last of unknown rank": ("Softmax", 11, [ROWS], 1, {"axis": -1}),
    "Softmax from the last but one": ("Softmax", 11, [IMAGE], 1, {"axis": -2}),
    **{
        f"{kind} {opset} {attributes}": (kind, opset, [np.abs(IMAGE) + 0.1], 1, attributes)
        for kind in (
            *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
            *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
        )
        for opset in (7, 11)
        for attributes in ({"axes": [1, 3], "keepdims": 0}, {"axes": [2]}, {})
    },
    "OneHot": ("OneHot", 9, [ints(1, -1, 3), scalar(4, np.int64), floats(0, 2)], 1, {}),
    "Scatter": ("Scatter", 9, [ROWS, np.array([[1, 0]]), floats(8, 9).reshape(1, 2)], 1, {"axis": 1}),
    "RoiAlign": ("RoiAlign", 10, [IMAGE, *ROI], 1, {"output_height": 3, "output_width": 2, "spatial_scale": 0.5}),
    "GridSample": ("GridSample", 16, [IMAGE, GRID], 1, {}),
    "GridSample bicubic": ("GridSample", 16, [IMAGE, GRID], 1, {"mode": "bicubic"}),
    "GridSample nearest": ("GridSample", 16, [IMAGE, GRID], 1, {"mode": "nearest", "padding_mode": "border"}),
    "DFT": ("DFT", 17, [IMAGE[..., :1]], 1, {}),
    "DFT of a length": ("DFT", 17, [IMAGE[..., :1], scalar(4, np.int64)], 1, {"axis": 2}),
    "GroupNormalization": ("GroupNormalization", 18, [IMAGE, floats(1, 2), floats(0, 3)], 1, {"num_groups": 2}),
    "MaxPool": ("MaxPool", 7, [IMAGE], 1, {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "AveragePool": ("AveragePool", 7, [IMAGE], 1, {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]}),
    "Gemm": ("Gemm", 7, [ROWS, np.ones((72, 3), np.float32), floats(1, 2, 3)], 1, {"alpha": 0.5}),
    "ArgMax": ("ArgMax", 7, [ROWS], 1, {"axis": 1}),
    "Cast": ("Cast", 7, [IMAGE], 1, {"to": TensorProto.FLOAT16}),
    "Shape": ("Shape", 7, [IMAGE], 1, {}),
    "DepthToSpace": ("DepthToSpace", 7, [IMAGE], 1, {"blocksize": 2}),
    "QuantizeLinear": ("QuantizeLinear", 10, [IMAGE, scalar(0.1), scalar(128, np.uint8)], 1, {}),
}


@pytest.mark.parametrize("opset", [13, RUNS_IN_RUNTIME])
@pytest.mark.parametrize("shapes", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize("case", CASES)
def test_one_node_means_the_same(case: str, shapes: bool, opset: int) -> None:
    op_type, version, inputs, outputs, attributes = CASES[case]
    proto = model(op_type, version, inputs, outputs, shapes, **attributes)
    if op_type == "GroupNormalization" and opset > 20 and not shapes:
        with pytest.raises(UnsupportedOpset, match="its number of channels is unknown"):
            raised(proto, opset)
    elif version < opset:
        assert_same_when_raised(proto, {"x": inputs[0]}, opset)  # type: ignore[dict-item]


def test_every_adapter_of_opset_7_and_later_has_a_case() -> None:
    refused = {("Scan", 9)}
    covered = {
        (op_type, step) for op_type, version, *_ in CASES.values() for step in range(version + 1, RUNS_IN_RUNTIME + 1)
    }
    assert {key for key in ADAPTERS if key[1] > 7} - covered - refused == set()


def test_a_changed_operator_has_an_adapter() -> None:
    """Structure tells: an attribute or input that is gone, another default, or deprecation."""
    compatible = {
        ("Constant", 11),  # one of many attributes now
        ("Erf", 13),  # integers are gone; no runtime has them
        ("ReduceLogSum", 28),
        ("ReduceLogSumExp", 28),
        ("Resize", 13),
    }
    changed = set()
    schemas = [schema for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""]
    for name in {schema.name for schema in schemas}:
        versions = sorted((s for s in schemas if s.name == name), key=lambda s: s.since_version)
        for old, new in pairwise(versions):
            gone = set(old.attributes) - set(new.attributes)
            default = any(
                old.attributes[k].default_value != new.attributes[k].default_value
                for k in set(old.attributes) & set(new.attributes)
            )
            if new.since_version > 7 and (gone or default or (new.deprecated and not old.deprecated)):
                changed.add((name, new.since_version))
    assert changed - compatible - set(ADAPTERS) == set()


@pytest.mark.parametrize(
    ("op_type", "axis", "b_shape"),
    [("Add", 1, (4,)), ("Mul", 1, (4, 6)), ("Sub", None, (6,)), ("Div", 0, (2,)), ("Pow", -2, (6,)), ("Less", 1, (4,))],
)
def test_broadcast_axis_of_opset_6_becomes_a_reshape(op_type: str, axis: int | None, b_shape: tuple[int, ...]) -> None:
    """ONNX Runtime has no kernels of opset 6 for these, so NumPy says what is right."""
    a = np.abs(IMAGE) + 0.5
    b = np.arange(1, 1 + np.prod(b_shape), dtype=np.float32).reshape(b_shape)
    attributes = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
    proto = model(op_type, 6, [a, b], **attributes)
    start = a.ndim - b.ndim if axis is None else axis % a.ndim
    aligned = b.reshape(b_shape + (1,) * (a.ndim - start - b.ndim))
    functions = {
        "Add": np.add,
        "Mul": np.multiply,
        "Sub": np.subtract,
        "Div": np.divide,
        "Pow": np.power,
        "Less": np.less,
    }
    np.testing.assert_allclose(run(raised(proto, 13), {"x": a})[0], functions[op_type](a, aligned), rtol=1e-6)


def test_refuses_a_broadcast_axis_where_the_rank_is_unknown() -> None:
    proto = model("Add", 6, [IMAGE, floats(1, 2, 3, 4)], axis=1, broadcast=1)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UnsupportedOpset, match="its inputs' shapes are unknown"):
        raised(proto, 13)


def test_prelu_slopes_of_opset_6_are_per_channel() -> None:
    slope = floats(0.1, 0.2, 0.3, 0.4)
    got = run(raised(model("PRelu", 6, [IMAGE, slope]), 13), {"x": IMAGE})[0]
    np.testing.assert_allclose(got, np.where(IMAGE < 0, IMAGE * slope[:, None, None], IMAGE), rtol=1e-6)


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (model("BatchNormalization", 7, [IMAGE, *STATISTICS], spatial=0), "spatial=0 has no equal"),
        (model("BatchNormalization", 9, [IMAGE, *STATISTICS], 3), "it is in training mode"),
        (model("Dropout", 7, [IMAGE], 2), "its mask, which becomes boolean, is used"),
        (model("Cast", 5, [IMAGE], to="FLOAT"), "its operator was another one then"),
    ],
)
def test_refuses_what_has_no_equal(proto: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(UnsupportedOpset, match=rf"Node 'n' \(\w+\) cannot be raised from opset \d+ to \d+: {reason}\."):
        raised(proto, 14)


def test_softmax_over_one_wide_axis_stays_one_node() -> None:
    after = raised(model("Softmax", 11, [IMAGE.reshape(2, 144, 1, 1)], axis=1), 13)
    assert [(node.op_type, node.attribute[0].i) for node in after.graph.node] == [("Softmax", 1)]


def test_shapes_are_inferred_where_the_model_does_not_say_them() -> None:
    proto = parser.parse_model(
        """<ir_version: 7, opset_import: ["" : 11]>
        g (float[2, 4, 6, 6] x) => (float[2, 24] y) {
            a = GlobalAveragePool(x)
            s = Softmax(a)
            f = Flatten(s)
            y = Concat <axis = 1> (f, f, f, f, f, f)
        }"""
    )
    after = assert_same_when_raised(proto, {"x": IMAGE}, 13)
    assert "Reshape" not in [node.op_type for node in after.graph.node]


def test_clip_limits_get_the_type_of_the_input() -> None:
    """ONNX Runtime has Clip for double from opset 12 on alone."""
    proto = parser.parse_model(
        """<ir_version: 7, opset_import: ["" : 10]>
        g (double[3] x) => (double[3] y) { a = Neg(x) y = Clip <min = -1.0, max = 1.0> (a) }"""
    )
    np.testing.assert_array_equal(run(raised(proto, 13), {"x": np.array([-3, 0.5, 3.0])})[0], [1, -0.5, -1])


CONTROL_FLOW = """<ir_version: 8, opset_import: ["" : 11, "f" : 1]>
g (float[2, 3] x, bool c) => (float[N] z) {
    a = If (c) <
        then_branch = t () => (float[1, 2, 3] p) { p = Unsqueeze <axes = [0]> (x) },
        else_branch = e () => (float[1, 2, 3] q) { r = Neg(x) q = Unsqueeze <axes = [0]> (r) }
    >
    b = f.tail <axes = [0], p = [0, 1, 0, 2], v = 0.5> (a)
    z = ReduceSum <axes = [0], keepdims = 0> (b)
}
<domain: "f", opset_import: ["" : 10]> tail <axes, p, v> (u) => (r) {
    s = Squeeze <axes: ints = @axes> (u)
    q = Pad <pads: ints = @p, value: float = @v> (s)
    r = Softmax(q)
}"""


@pytest.mark.skipif(
    tuple(map(int, ort.__version__.split(".")[:2])) < (1, 24),
    reason="older versions do not see a function's attributes when they infer shapes",
)
@pytest.mark.parametrize("condition", [True, False])
def test_subgraphs_and_functions_are_raised_too(condition: bool) -> None:
    """ONNX Runtime refuses functions of another opset than the model's, so they are made equal first."""
    proto = parser.parse_model(CONTROL_FLOW)
    feeds = {"x": IMAGE[0, 0, :2, :3], "c": np.array(condition)}
    after = raised(proto, 13)
    assert [entry.version for entry in after.functions[0].opset_import] == [13]
    x = feeds["x"] if condition else -feeds["x"]
    padded = np.pad(x, [(0, 0), (1, 2)], constant_values=0.5)
    e = np.exp(padded)
    np.testing.assert_allclose(run(after, feeds)[0], (e / e.sum(1, keepdims=True)).sum(0), rtol=1e-5)


def test_metadata_names_and_other_domains_are_kept() -> None:
    proto = parser.parse_model(
        """<ir_version: 7, opset_import: ["" : 11, "com.example" : 3]>
        g (float[2, 3] x) => (float[1, 2, 3] y) { a = com.example.F <axes = [1]> (x) y = Unsqueeze <axes = [0]> (a) }"""
    )
    proto.metadata_props.add(key="author", value="me")
    proto.graph.node[1].metadata_props.add(key="layer", value="first")
    after = ir.from_proto(proto)
    ensure_opset(after, 13)
    nodes = list(after.graph)
    assert after.metadata_props == {"author": "me"}
    assert nodes[1].metadata_props == {"layer": "first"}
    assert nodes[0].attributes["axes"].as_ints() == (1,)
    assert after.opset_imports == {"": 13, "com.example": 3}
    assert [value.name for value in after.graph.outputs] == ["y"]


def test_new_names_do_not_collide() -> None:
    proto = parser.parse_model(
        """<ir_version: 7, opset_import: ["" : 11]>
        g (float[2, 3] x) => (float[1, 2, 3, 1] z) <int64[1] taken = {7}> {
            y = Unsqueeze <axes = [0]> (x)
            z = Unsqueeze <axes = [3]> (y)
        }"""
    )
    proto.graph.initializer[0].name = "n.axes"
    for node, name in zip(proto.graph.node, ("n", "m"), strict=True):
        node.name = name
    after = raised(proto, 13)
    assert sorted(tensor.name for tensor in after.graph.initializer) == ["m.axes", "n.axes", "n.axes.1"]
    assert run(after, {"x": IMAGE[0, 0, :2, :3]})[0].shape == (1, 2, 3, 1)


def test_large_weights_are_not_touched() -> None:
    proto = model("Gemm", 11, [ROWS, np.ones((72, 300), np.float32), np.ones(300, np.float32)])
    before = ir.from_proto(proto)
    tensors = {name: value.const_value for name, value in before.graph.initializers.items()}
    ensure_opset(before, 13)
    assert all(value.const_value is tensors[name] for name, value in before.graph.initializers.items())


def test_a_newer_model_stays_as_it_is() -> None:
    proto = model("Relu", 17, [IMAGE])
    assert raised(proto, 13) == ir.to_proto(ir.from_proto(proto))


def test_a_model_without_standard_operators_gets_the_domain() -> None:
    after = ir.from_proto(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["com.x" : 1]> g (float[1] x) => (float[1] y) { y = com.x.F(x) }'
        )
    )
    ensure_opset(after, 13)
    assert after.opset_imports == {"com.x": 1, "": 13}


@pytest.mark.parametrize("minimum", [0, 6, NEWEST + 1])
def test_refuses_opsets_that_are_unknown(minimum: int) -> None:
    with pytest.raises(UnsupportedOpset, match=f"Opset {minimum} is unknown"):
        ensure_opset(ir.from_proto(model("Relu", 13, [IMAGE])), minimum)


def test_initializers_of_ir_version_3_stay_constant() -> None:
    """They had to be inputs then; from version 4 on that would make them inputs that callers may set."""
    proto = model("Add", 7, [IMAGE, IMAGE[:1]])
    proto.ir_version = 3
    proto.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, (1, 4, 6, 6)))
    after = assert_same_when_raised(proto, {"x": IMAGE}, 13)
    assert after.ir_version >= 7
    assert [value.name for value in after.graph.input] == ["x"]
