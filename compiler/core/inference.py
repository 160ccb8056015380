"""Annotate values with the types and shapes that ONNX's shape inference finds.

Scope: main graph and subgraphs. Values inside functions have no shape of their own: it differs from call to call.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import onnx
import onnx_ir as ir

from lwc.compiler.core.operators import is_defined
from lwc.compiler.core.skeleton import skeleton

log = logging.getLogger(__name__)

# ONNX infers nothing past an operator it does not know, so for inference alone these, when ONNX does not define them,
# are taken for standard ones: operator -> (stand-in, outputs with the type and shape of the stand-in's output).
_STAND_INS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "BiasGelu": ("Identity", (0,)),
    "DequantizeLinear": ("DequantizeLinear", (0,)),
    "FastGelu": ("Identity", (0,)),
    "FusedConv": ("Conv", (0,)),
    "FusedGemm": ("Gemm", (0,)),
    "Gelu": ("Identity", (0,)),
    "LayerNormalization": ("Identity", (0,)),
    "QuantizeLinear": ("QuantizeLinear", (0,)),
    "QuickGelu": ("Identity", (0,)),
    "SimplifiedLayerNormalization": ("Identity", (0,)),
    "SkipLayerNormalization": ("Identity", (0, 3)),
    "SkipSimplifiedLayerNormalization": ("Identity", (0, 3)),
}


def infer_shapes(model: ir.Model) -> None:
    """Annotate values in place with all that can be inferred; symbols of dynamic dimensions are kept.

    Weights of 1 KB and more are not copied. What contradicts itself is left as it was.
    """
    proto = skeleton(model)
    for part in _graphs(proto.graph):
        _stand_in(part, model)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        log.warning("shapes are not inferred: %s", error)
        return
    for graph, annotated in zip(model.graphs(), _graphs(inferred.graph), strict=True):
        _annotate(graph, annotated)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and its subgraphs in the order of ir.Model.graphs: each before those inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _stand_in(graph: onnx.GraphProto, model: ir.Model) -> None:
    nodes: list[onnx.NodeProto] = []
    changed = False
    for node in graph.node:
        if node.op_type in _STAND_INS and _is_foreign(node, model):
            nodes += _stand_ins(node)
            changed = True
        else:
            nodes.append(node)
    if changed:
        del graph.node[:]
        graph.node.extend(nodes)


def _is_foreign(node: onnx.NodeProto, model: ir.Model) -> bool:
    own = (node.domain, node.op_type, node.overload) in model.functions
    return not own and not is_defined(node.domain, node.op_type, model.opset_imports.get(node.domain, 0))


def _stand_ins(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    op_type, outputs = _STAND_INS[node.op_type]
    schema = onnx.defs.get_schema(op_type)
    for k in outputs:
        if k < len(node.output) and node.output[k]:
            stand_in = onnx.NodeProto(op_type=op_type, output=[node.output[k]])
            stand_in.input.extend(node.input[: schema.max_input])
            stand_in.attribute.extend(a for a in node.attribute if a.name in schema.attributes)
            yield stand_in


def _annotate(graph: ir.Graph, annotated: onnx.GraphProto) -> None:
    infos = {info.name: info for info in (*annotated.value_info, *annotated.output)}
    for node in graph:
        for value in node.outputs:
            info = infos.get(value.name or "")
            if info is None:
                continue
            shape = ir.serde.deserialize_type_proto_for_shape(info.type)
            if shape is not None and shape != value.shape:
                value.shape = shape
            kind = ir.serde.deserialize_type_proto_for_type(info.type)
            if kind is not None and kind != value.type:
                value.type = kind
