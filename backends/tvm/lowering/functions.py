"""Operators that are functions: of the model itself, of ONNX, which defines them by a body, or of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from tvm import relax

from lwc.backends.tvm.lowering.bodies import body_of
from lwc.backends.tvm.lowering.expressions import Value, dims_of, dtype_of

Functions = Mapping[tuple[str, str], onnx.FunctionProto]


@dataclass(frozen=True)
class FunctionCall:
    """A body with the call's attributes in it.

    inputs, outputs: names of the body's values;  imports: opsets of its nodes
    local: whether the model defines it, which then overrides every other meaning
    """

    nodes: Sequence[onnx.NodeProto]
    inputs: Sequence[str]
    outputs: Sequence[str]
    imports: Mapping[str, int]
    local: bool


def call_of(
    node: onnx.NodeProto, inputs: Sequence[Value | None], imports: Mapping[str, int], local: Functions
) -> FunctionCall | None:
    """The function that the node calls; None where it calls none.

    inputs: of the node, whose types decide some bodies;  imports: domain -> opset where the node stands
    """
    function = local.get((node.domain, node.op_type))
    defaults: dict[str, onnx.AttributeProto] = {}
    if function is None:
        function = body_of(node, inputs)
    if function is None:
        schema = _schema(node, imports)
        function = None if schema is None else _standard_body(schema, node, inputs, imports[schema.domain])
        if schema is None or function is None:
            return None
        defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}
    defaults |= {attribute.name: attribute for attribute in function.attribute_proto}
    given = defaults | {attribute.name: attribute for attribute in node.attribute}
    return FunctionCall(
        [_bound(inner, given) for inner in function.node],
        function.input,
        function.output,
        {entry.domain: entry.version for entry in function.opset_import},
        (node.domain, node.op_type) in local,
    )


def _schema(node: onnx.NodeProto, imports: Mapping[str, int]) -> Any:
    """The operator's schema, of type Any as onnx's stubs lack what it says of bodies; None where ONNX has none."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if domain not in imports or not onnx.defs.has(node.op_type, imports[domain], domain):
        return None
    return onnx.defs.get_schema(node.op_type, imports[domain], domain)


def _standard_body(
    schema: Any, node: onnx.NodeProto, inputs: Sequence[Value | None], opset: int
) -> onnx.FunctionProto | None:
    version = max((v for v in schema.function_opset_versions if v <= opset), default=None)
    if version is not None:
        return _parsed(schema.get_function_with_opset_version(version))
    version = max((v for v in schema.context_dependent_function_opset_versions if v <= opset), default=None)
    if version is None:
        return None
    types = [_type_of(value).SerializeToString() for value in inputs]
    return _parsed(schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), types))


def _parsed(body: bytes) -> onnx.FunctionProto | None:
    return onnx.FunctionProto.FromString(body) if body else None


def _type_of(value: Value | None) -> onnx.TypeProto:
    if not isinstance(value, relax.Expr):
        return onnx.TypeProto()
    if isinstance(value.ty, relax.TupleType):
        element = _type_of(value[0]) if len(value) else onnx.helper.make_tensor_type_proto(1, None)
        return onnx.helper.make_sequence_type_proto(element)
    if isinstance(value.ty, relax.ShapeType):
        return onnx.helper.make_tensor_type_proto(onnx.TensorProto.INT64, [value.ty.ndim])
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype_of(value)))
    try:
        return onnx.helper.make_tensor_type_proto(kind, [d if isinstance(d, int) else str(d) for d in dims_of(value)])
    except NotImplementedError:
        return onnx.helper.make_tensor_type_proto(kind, None)


def _bound(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """The node with the call's attributes in place of references to them, in its subgraphs too."""
    bound = onnx.NodeProto()
    bound.CopyFrom(node)
    del bound.attribute[:]
    bound.attribute.extend(a for a in (_resolved(attribute, given) for attribute in node.attribute) if a is not None)
    return bound


def _resolved(attribute: onnx.AttributeProto, given: Mapping[str, Any]) -> onnx.AttributeProto | None:
    made = onnx.AttributeProto()
    if attribute.ref_attr_name:
        if attribute.ref_attr_name not in given:
            return None
        made.CopyFrom(given[attribute.ref_attr_name])
        made.name = attribute.name
        return made
    made.CopyFrom(attribute)
    if attribute.HasField("g"):
        nodes = [_bound(inner, given) for inner in attribute.g.node]
        del made.g.node[:]
        made.g.node.extend(nodes)
    return made
