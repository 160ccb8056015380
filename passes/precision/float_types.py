"""Which inputs and outputs of a node change type when it computes in a shorter float format.

An operator's schema names, for each input, a type variable and the types it may stand for. A variable that float32
inputs are bound to becomes the short format if it may; inputs of a fixed type (Resize's scales) and variables
without the format stay. The types of the outputs are then asked of ONNX's own inference for the operator, so what
is rewritten so has the types that the checker finds. Scope: nodes of any graph that hold no subgraph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import onnx
import onnx_ir as ir

from lwc.passes.edit import graphs_of

FLOAT = ir.DataType.FLOAT
BFLOAT16 = ir.DataType.BFLOAT16
FLOAT16 = ir.DataType.FLOAT16

_TENSOR_OF = {FLOAT16: "tensor(float16)", BFLOAT16: "tensor(bfloat16)"}
# The schema lets it be short, ONNX Runtime's kernels read it as float32 (1.31).
_READ_AS_FLOAT = frozenset({("Resize", 1)})


@dataclass(frozen=True)
class Conversion:
    """The float format of a node, and the positions of its inputs and outputs that take it."""

    dtype: ir.DataType
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def conversion(node: ir.Node, opsets: Mapping[str, int], dtype: ir.DataType) -> Conversion | str:
    """How `node` computes in `dtype`, or the reason why it cannot. Values need types."""
    if node.op_type == "Cast" and node.domain == "":
        return _of_cast(node, dtype)
    if holds_graphs(node):
        return "it holds subgraphs"
    schema = _schema(node.domain, node.op_type, opsets.get(node.domain, 0))
    if schema is None:
        return f"ONNX does not define the types of '{node.domain}:{node.op_type}'"
    for value in node.inputs:
        if value is not None and not isinstance(value.type, ir.TensorType):
            return f"the type of its input '{value.name}' is {'unknown' if value.type is None else 'no tensor'}"
    floats = [k for k, value in enumerate(node.inputs) if value is not None and value.dtype == FLOAT]
    inputs = tuple(
        k for k in floats if (node.op_type, k) not in _READ_AS_FLOAT and _may_be(schema, _parameter(schema, k), dtype)
    )
    if not inputs:
        return _nothing_to_change(node, bool(floats), dtype)
    proto = _anonymous(node)
    before, after = (_output_types(schema, node, proto, opsets, taken, dtype) for taken in ((), inputs))
    changed = tuple(k for k, kind in enumerate(after) if kind != before[k])
    if any(kind is None for kind in (*before, *after)) or any(after[k] != dtype for k in changed):
        return "ONNX does not tell the types of its outputs"
    return Conversion(dtype, inputs, changed)


def accepts(node: ir.Node, index: int, opsets: Mapping[str, int], dtype: ir.DataType) -> bool:
    """Whether the operator's schema takes this format at an input."""
    schema = _schema(node.domain, node.op_type, opsets.get(node.domain, 0))
    return schema is not None and _may_be(schema, _parameter(schema, index), dtype)


def holds_graphs(node: ir.Node) -> bool:
    """Whether the node runs subgraphs (If, Loop, Scan, SequenceMap)."""
    return any(graphs_of(attribute) for attribute in node.attributes.values())


def _of_cast(node: ir.Node, dtype: ir.DataType) -> Conversion | str:
    """A Cast makes what its attribute says, from anything."""
    source = node.inputs[0]
    if node.outputs[0].dtype != FLOAT or source is None or source.dtype in (None, FLOAT, dtype):
        return "it casts between other types"
    return Conversion(dtype, (), (0,))


def _nothing_to_change(node: ir.Node, reads_floats: bool, dtype: ir.DataType) -> str:
    if reads_floats:
        return f"{node.op_type} takes no {dtype.name.lower()} at this opset"
    return "it reads no float32"


@cache
def _schema(domain: str, op_type: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def _parameter(schema: onnx.defs.OpSchema, index: int) -> str:
    """The type variable, or the type, of an input; variadic inputs share the last one's."""
    return schema.inputs[min(index, len(schema.inputs) - 1)].type_str


def _may_be(schema: onnx.defs.OpSchema, parameter: str, dtype: ir.DataType) -> bool:
    return _TENSOR_OF[dtype] in _allowed(schema.domain, schema.name, schema.since_version).get(parameter, ())


@cache
def _allowed(domain: str, op_type: str, version: int) -> Mapping[str, frozenset[str]]:
    """Type variable -> what it may stand for."""
    constraints = onnx.defs.get_schema(op_type, version, domain).type_constraints
    return {each.type_param_str: frozenset(each.allowed_type_strs) for each in constraints}


def _anonymous(node: ir.Node) -> onnx.NodeProto:
    """The node with inputs i0, i1 ... and outputs o0, o1 ..., where they are there."""
    proto = ir.serde.serialize_node(node)
    for names in (proto.input, proto.output):
        del names[:]
    proto.input.extend("" if value is None else f"i{k}" for k, value in enumerate(node.inputs))
    proto.output.extend(f"o{k}" if value.name else "" for k, value in enumerate(node.outputs))
    return proto


def _output_types(
    schema: onnx.defs.OpSchema,
    node: ir.Node,
    proto: onnx.NodeProto,
    opsets: Mapping[str, int],
    taken: tuple[int, ...],
    dtype: ir.DataType,
) -> list[ir.DataType | None]:
    """Element types of the outputs when the inputs `taken` have type `dtype`.

    Absent outputs count as float32; None where inference gives nothing.
    """
    types = {
        f"i{k}": _type_of(value, dtype if k in taken else None)
        for k, value in enumerate(node.inputs)
        if value is not None
    }
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    try:
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, opset_imports=imports)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        found = {}
    return [_element(found.get(name)) if name else FLOAT for name in proto.output]


def _type_of(value: ir.Value, dtype: ir.DataType | None) -> onnx.TypeProto:
    """Type and, where known, shape: inference of some operators stops at inputs without a rank."""
    assert value.dtype is not None
    dims = None if value.shape is None else [dim if isinstance(dim, int) else None for dim in value.shape]
    return onnx.helper.make_tensor_type_proto(int(dtype or value.dtype), dims)


def _element(kind: onnx.TypeProto | None) -> ir.DataType | None:
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.elem_type:
        return None
    return ir.DataType(kind.tensor_type.elem_type)
