"""For authors of passes: state a rewrite as before and after text, and check that two models compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from lwc.compiler.analysis.channels import Channels, Slot
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.digest import digest
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.compiler.core.target import NAMED
from lwc.compiler.graph_match import difference

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])
HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
DYNAMIC_SIZE = 3
_SHORT = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Tolerance:
    """|a - b| <= absolute * max(1, largest |a|) + relative * |a|, element by element; NaN and infinities must agree.

    The first term allows for cancellation: a rewrite may sum in another order.
    """

    name: str
    absolute: float
    relative: float


EXACT = Tolerance("exact", 0.0, 0.0)
FP64 = Tolerance("fp64", 1e-12, 1e-11)
FP32 = Tolerance("fp32", 2e-6, 2e-5)
DEEP_FP32 = Tolerance("fp32 through a whole network", 1e-4, 1e-3)
FP16 = Tolerance("fp16", 2e-3, 4e-3)
BF16 = Tolerance("bf16", 1.6e-2, 3.2e-2)
FP8 = Tolerance("fp8", 0.13, 0.13)

_BY_DTYPE = {"float64": FP64, "float32": FP32, "float16": FP16, "bfloat16": BF16}

Runner = Callable[[onnx.ModelProto, Mapping[str, Any]], Sequence[Any]]


def tolerance_of(dtype: Any) -> Tolerance:
    """The tolerance for results of this dtype; integers, booleans and strings must be equal."""
    name = np.dtype(dtype).name
    return FP8 if name.startswith("float8") else _BY_DTYPE.get(name, EXACT)


def parse(text: str, **weights: Any) -> ir.Model:
    """A model from ONNX text; without a header it is opset 17. Types and shapes are inferred.

    weights: arrays of names that the text reads and nothing in it makes
    """
    model = ir.from_proto(onnx.parser.parse_model(text if text.lstrip().startswith("<") else HEADER + text))
    dangling = {v.name: v for node in model.graph for v in node.inputs if v is not None and v.producer() is None}
    for name, array in weights.items():
        value, tensor = dangling[name], ir.tensor(np.asarray(array), name=name)
        value.const_value, value.shape, value.dtype = tensor, ir.Shape(tensor.shape.numpy()), tensor.dtype
        model.graph.register_initializer(value)
    infer_shapes(model)
    return model


def assert_rewrites(before: str, rewrite: Pass, after: str, ctx: PassContext = CONTEXT) -> Outcome:
    """`rewrite` turns the graph `before` into `after` (names of values in between do not matter).

    A name that `after` neither makes nor declares stands for any constant. Also checks what every pass promises:
    the result is valid, a second run changes nothing, and the outcome says truly whether something changed.
    """
    model = parse(before)
    outcome = assert_keeps_promises(model, rewrite, ctx)
    wanted = ir.from_proto(onnx.parser.parse_model(after if after.lstrip().startswith("<") else HEADER + after))
    found = difference(model.graph, wanted.graph)
    assert not found, f"{found}\n\n{rewrite.name} made:\n{onnx.printer.to_text(ir.to_proto(model))}"
    return outcome


def assert_unchanged(before: str, rewrite: Pass, ctx: PassContext = CONTEXT) -> Outcome:
    """`rewrite` leaves the graph alone."""
    model = parse(before)
    digest_before = digest(model)
    outcome = assert_keeps_promises(model, rewrite, ctx)
    assert digest(model) == digest_before, f"{rewrite.name} made:\n{onnx.printer.to_text(ir.to_proto(model))}"
    return outcome


def assert_keeps_promises(model: ir.Model, rewrite: Pass, ctx: PassContext = CONTEXT) -> Outcome:
    """Run `rewrite` on `model` in place and check what every pass promises."""
    signature, before = _signature(model), digest(model)
    outcome = rewrite.run(model, ctx)
    after = digest(model)
    assert bool(outcome.changed) == (after != before), f"{rewrite.name} reports {outcome.changed}"
    assert _signature(model) == signature, f"{rewrite.name} changed inputs or outputs"
    onnx.checker.check_model(ir.to_proto(model), full_check=False)
    again = rewrite.run(model, ctx)
    assert not again.changed, f"{rewrite.name} changed {again.changed} when run again"
    assert digest(model) == after, f"{rewrite.name} changed the graph when run again"
    return outcome


def assert_equivalent(
    before: ir.Model,
    after: ir.Model,
    feeds: Mapping[str, Any] | None = None,
    tolerance: Tolerance | None = None,
    run: Runner | None = None,
) -> None:
    """Both models give the same outputs for `feeds` (None: drawn by `draw_feeds`), within a named tolerance.

    tolerance: None takes that of each output's dtype;  run: None runs ONNX Runtime
    """
    runner = run or run_onnxruntime
    taken = draw_feeds(before) if feeds is None else feeds
    names = [value.name for value in before.graph.outputs]
    expected, found = (runner(ir.to_proto(model), taken) for model in (before, after))
    for name, a, b in zip(names, expected, found, strict=True):
        reason = disagreement(a, b, tolerance)
        assert not reason, f"output '{name}': {reason}"


def assert_valid(model: ir.Model) -> None:
    """The model passes ONNX's checker, and the types and shapes on its values are those that inference finds."""
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def without_channels(model: ir.Model, channels: Channels, removed: Mapping[Site, Sequence[int]]) -> ir.Model:
    """A copy in which sums over these channels see zeros: what removing them from exact groups must compute."""
    copy = model.clone()
    nodes = {node.name: node for node in copy.graph}
    for site, gone in removed.items():
        group = channels.at(site)
        assert group is not None
        for slot in group.contracted:
            _zero(nodes[slot.node], slot, gone)
    return copy


def _zero(node: ir.Node, slot: Slot, gone: Sequence[int]) -> None:
    value, graph = node.inputs[slot.index], node.graph
    assert value is not None
    assert value.dtype is not None
    assert graph is not None
    assert value.shape is not None
    size = value.shape[slot.axis]
    assert isinstance(size, int)
    keep = np.ones(size, value.dtype.numpy())
    keep[slot.positions[list(gone)].reshape(-1)] = 0
    keep = keep.reshape(-1, *(1,) * (len(value.shape) - 1 - slot.axis))
    tensor = ir.tensor(keep)
    mask = ir.Value(name=f"{value.name}.kept.{id(tensor)}", const_value=tensor, type=value.type)
    mask.shape = ir.Shape(keep.shape)
    graph.register_initializer(mask)
    product = ir.node("Mul", [value, mask])
    masked = product.outputs[0]
    masked.name, masked.type, masked.shape = f"{mask.name}.of", value.type, value.shape
    graph.insert_before(node, product)
    node.replace_input_with(slot.index, masked)


def widened(model: ir.Model) -> ir.Model:
    """A copy whose 16-bit nodes compute in float32 between casts: the same numbers where kernels are missing.

    Nodes of subgraphs too; casts and nodes that hold subgraphs stay as they are.
    """
    copy = model.clone()
    for graph in copy.graphs():
        for node in list(graph):
            if node.op_type != "Cast" and not any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
                for k, value in enumerate(node.inputs):
                    if value is not None and value.dtype in _SHORT:
                        cast = _cast(value, ir.DataType.FLOAT, f"{node.outputs[0].name}.{k}.wide")
                        graph.insert_before(node, cast)
                        node.replace_input_with(k, cast.outputs[0])
                for value in node.outputs:
                    if value.dtype in _SHORT:
                        _round_output(graph, node, value, value.dtype)
    return copy


def _round_output(graph: ir.Graph, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> None:
    name = value.name or ""
    readers, outputs = list(value.uses()), [k for k, output in enumerate(graph.outputs) if output is value]
    cast = _cast(value, dtype, f"{name}.rounded")
    graph.insert_after(node, cast)
    for use in readers:
        use.node.replace_input_with(use.idx, cast.outputs[0])
    for k in outputs:
        graph.outputs[k] = cast.outputs[0]
    value.type, value.name = ir.TensorType(ir.DataType.FLOAT), f"{name}.wide"
    cast.outputs[0].name = name


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    cast = ir.node("Cast", [value], {"to": int(dtype)}, name=name)
    cast.outputs[0].name, cast.outputs[0].shape = name, value.shape
    cast.outputs[0].type = ir.TensorType(dtype)
    return cast


def run_onnxruntime(proto: onnx.ModelProto, feeds: Mapping[str, Any]) -> Sequence[Any]:
    """All outputs in order, from ONNX Runtime with one thread."""
    from lwc.backends.onnxruntime.session import OrtSession, create, session_options

    options = session_options(CONTEXT.target.with_threads(1))
    session = OrtSession(create(proto.SerializeToString(), options, proto.graph.name), proto.graph.name)
    return list(session.run(feeds).values())


def draw_feeds(model: ir.Model, seed: int = 0) -> dict[str, Any]:
    """Small random inputs: floats are normal, integers 0 to 2, dynamic dimensions of size 3."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for value in model.graph.inputs:
        if value.is_initializer() or value.dtype is None:
            continue
        shape = tuple(dim if isinstance(dim, int) else DYNAMIC_SIZE for dim in value.shape or ())
        dtype = value.dtype.numpy()
        drawn = rng.integers(0, 3, shape) if value.dtype.is_integer() else rng.standard_normal(shape)
        feeds[value.name or ""] = drawn > 0 if dtype == np.bool_ else np.asarray(drawn).astype(dtype)
    return feeds


def disagreement(a: Any, b: Any, tolerance: Tolerance | None = None) -> str:
    """Why two outputs (arrays, sequences of them, or None) differ; empty when they agree."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return f"{len(a)} items became {len(b)}"
        return next((reason for x, y in zip(a, b, strict=True) if (reason := disagreement(x, y, tolerance))), "")
    if a is None or b is None:
        return "" if a is None and b is None else "an optional output appeared or vanished"
    x, y = np.asarray(a), np.asarray(b)
    if x.dtype != y.dtype or x.shape != y.shape:
        return f"{x.dtype}{list(x.shape)} became {y.dtype}{list(y.shape)}"
    named = tolerance or tolerance_of(x.dtype)
    if named is EXACT or x.dtype.kind in "OUSb":
        return "" if bool(np.all((x == y) | ((x != x) & (y != y)))) else f"values differ at {named.name}"
    return _beyond(x.astype(np.float64), y.astype(np.float64), named)


def _beyond(x: Any, y: Any, tolerance: Tolerance) -> str:
    finite = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return "NaN or infinities differ"
    size = np.abs(x[finite])
    error = np.abs(x[finite] - y[finite])
    allowed = tolerance.absolute * max(1.0, float(size.max(initial=0.0))) + tolerance.relative * size
    if bool((error <= allowed).all()):
        return ""
    return f"{int((error > allowed).sum())} of {x.size} values beyond {tolerance.name}, worst {float(error.max())}"


def _signature(model: ir.Model) -> list[tuple[Any, ...]]:
    inputs = [value for value in model.graph.inputs if model.ir_version >= 4 or not value.is_initializer()]
    return [(value.name, value.type, len(value.shape or ())) for value in (*inputs, *model.graph.outputs)]
