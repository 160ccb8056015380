"""ONNX into Relax: our rules first, then TVM's front end, then the body by which ONNX defines an operator."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnx.numpy_helper
import tvm
from tvm import IRModule, relax, tirx
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter, _get_convert_map, onnx_input

from lwc.backends.tvm.lowering import CONTROL_FLOW, RULES
from lwc.backends.tvm.lowering.expressions import Value, shape_constant
from lwc.backends.tvm.lowering.folding import folded
from lwc.backends.tvm.lowering.functions import FunctionCall, call_of
from lwc.compiler.core.errors import UnsupportedOperator, UnsupportedOpset
from lwc.compiler.core.model import Model
from lwc.compiler.core.opset import NEWEST, ensure_opset

# TVM's front end knows operators by name alone; these it reads as ONNX Runtime's, whatever their domain.
CONTRIB_OF_TVM = frozenset(
    {"AllClassNMS", "Attention", "BiasGelu", "EmbedLayerNormalization", "FastGelu", "SkipLayerNormalization"}
)
# Operators whose result is one sequence, which Relax writes as a tuple.
SEQUENCES = frozenset(
    {"Identity", "Optional", "OptionalGetElement", "SequenceConstruct", "SequenceEmpty", "SequenceErase"}
    | {"SequenceInsert", "SplitToSequence"}
)
# Those of TVM's converters that take a shape of symbolic dimensions as it is; others get it as a tensor.
TAKES_SHAPES = frozenset(
    {"Cast", "Concat", "ConstantOfShape", "Equal", "Expand", "Gather", "Reshape", "Resize", "Shape", "Slice"}
    | {"Squeeze", "Where"}
)
NARROW = {"int2": "int8", "int4": "int8", "uint2": "uint8", "uint4": "uint8"}
STANDARD = ("", "ai.onnx")


def import_model(model: Model, shapes: Mapping[str, Sequence[int]] | None = None) -> IRModule:
    """A Relax module whose function `main` takes the graph's inputs, weights as constants.

    shapes: of inputs with dynamic dimensions, by name
    Raises UnsupportedOperator, naming the node and what stands against it.
    """
    importer = Importer(_newest(model), shapes)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return importer.module()
        except Exception as error:
            raise UnsupportedOperator(f"{model.name}: TVM cannot take {importer.at}: {_first_line(error)}") from error


def _newest(model: Model) -> onnx.ModelProto:
    """The model at the newest opset, in which every operator has one form; as it is where a node has no equal."""
    raised = model.fork()
    try:
        ensure_opset(raised.ir, NEWEST)
    except UnsupportedOpset:
        return model.to_proto()
    return raised.to_proto()


class Importer(ONNXGraphImporter):
    """TVM's importer with another way through the nodes: constants folded, subgraphs and functions walked into.

    at: the node that is being converted, for messages
    bb, opset: the block builder, and the standard opset of the nodes being converted
    """

    def __init__(self, proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]] | None = None) -> None:
        super().__init__({name: list(shape) for name, shape in (shapes or {}).items()}, "float32", sanitize=True)
        self.at = "the graph"
        self._nodes: dict[str, Value] = {}
        self._graph = proto.graph
        self._functions = {(function.domain, function.name): function for function in proto.functions}
        self._imports = {entry.domain: entry.version for entry in proto.opset_import}
        self._narrow: set[str] = set()
        self.opset = max((self._imports.get(domain, 1) for domain in STANDARD), default=1)

    def module(self) -> IRModule:
        """The whole model; raises whatever stands against it while `at` names the node."""
        self._parse_graph_initializers(self._graph)
        self._parse_graph_input(self._graph)
        branches = any(node.op_type == "If" for node in _all_nodes(self._graph, self._functions.values()))
        parameters = [value for value in self._inputs.values() if isinstance(value, relax.Var)]
        with self.bb.function("main", params=parameters):
            if branches:  # Relax allows none inside a dataflow block
                self.bb.emit_func_output(self._results())
            else:
                with self.bb.dataflow():
                    results = self.bb.emit_output(self._results())
                self.bb.emit_func_output(results)
        module = self.bb.get()
        module["main"] = module["main"].with_attrs({"num_input": self._num_input})
        return relax.transform.ConvertToDataflow(min_size=1)(module) if branches else module

    def body(self, graph: onnx.GraphProto, given: Mapping[str, Value]) -> list[Value]:
        """Outputs of a subgraph that sees the values around it; `given` are those of its own inputs."""
        around = self._nodes
        self._nodes = {**around, **given}
        try:
            self._parse_graph_initializers(graph)
            for node in graph.node:
                self._convert(node)
            return [self._nodes[output.name] for output in graph.output]
        finally:
            self._nodes = around

    def _call(self, call: FunctionCall, inputs: Sequence[Value | None]) -> list[Value]:
        """Outputs of a function, whose nodes see its inputs alone."""
        around, imports, opset = self._nodes, self._imports, self.opset
        self._nodes = dict(zip(call.inputs, inputs, strict=False))
        self._imports = {**imports, **call.imports}
        self.opset = next((call.imports[domain] for domain in STANDARD if domain in call.imports), opset)
        try:
            for node in call.nodes:
                self._convert(node)
            return [self._nodes.get(name) for name in call.outputs]
        finally:
            self._nodes, self._imports, self.opset = around, imports, opset

    def _results(self) -> relax.Expr:
        for node in self._graph.node:
            self._convert(node)
        self.at = "the graph's outputs"
        found = [_tensor(self._nodes[output.name]) for output in self._graph.output]
        return found[0] if len(found) == 1 else relax.Tuple(found)

    def _convert(self, node: onnx.NodeProto) -> None:
        caller, self.at = self.at, f"'{node.name or node.output[0]}' ({node.op_type})"
        inputs = onnx_input(self._nodes.get(name) for name in node.input)
        for name, value in zip(node.output, self._outputs(node, inputs), strict=False):
            if name:
                self._nodes[name] = value
        self.at = caller

    def _outputs(self, node: onnx.NodeProto, inputs: Any) -> Sequence[Value | None]:
        if node.op_type == "QuantizeLinear" and self._narrow.intersection(node.input):
            raise NotImplementedError("its result has fewer than 8 bits.")
        constants = folded(node, inputs, self.opset)
        if constants is not None:
            return constants
        attrs = {attribute.name: _plain(attribute) for attribute in node.attribute}
        if node.op_type in CONTROL_FLOW and node.domain in STANDARD:
            return CONTROL_FLOW[node.op_type](self, inputs, attrs)
        attrs["tvm_custom"] = {"name": node.name, "num_outputs": len(node.output)}
        known = self._knows(node)
        call = call_of(node, inputs, self._imports, self._functions)
        if known and (call is None or not call.local):
            try:
                return self._fields(node, self._convert_operator(_key(node), inputs, attrs, self.opset))
            except Exception:
                if call is None:
                    raise
        if call is None:
            raise NotImplementedError("no rule imports this operator.")
        return self._call(call, inputs)

    def _knows(self, node: onnx.NodeProto) -> bool:
        name = _key(node)
        standard = node.domain in STANDARD
        return name in RULES or (name in _get_convert_map() and not (standard and name in CONTRIB_OF_TVM))

    def _convert_operator(self, op_name: str, inputs: Any, attrs: dict[str, Any], opset: int) -> Value:
        rule = RULES.get(op_name)
        given = inputs if op_name in TAKES_SHAPES else onnx_input(_tensor(value) for value in inputs)
        if rule is None:
            return super()._convert_operator(op_name, given, attrs, opset)
        result = self.bb.normalize(rule(self.bb, list(given), attrs, opset))
        return self.bb.emit(result) if isinstance(result, relax.TupleGetItem) else result

    def _fields(self, node: onnx.NodeProto, result: Value) -> Sequence[Value]:
        """One value for each output of the node."""
        if not isinstance(result, relax.Expr) or not isinstance(result.ty, relax.TupleType):
            found = [result]
        elif node.op_type in SEQUENCES:
            found = [_as_tuple(self.bb, result)]
        else:
            found = list(_as_tuple(self.bb, result))
        if len(found) < len(node.output):
            raise NotImplementedError(f"{len(found)} of its {len(node.output)} outputs are known.")
        return found

    def _parse_array(self, tensor_proto: onnx.TensorProto) -> tvm.runtime.Tensor:
        """A weight; those of under 8 bits in bytes, which TVM computes with."""
        array = onnx.numpy_helper.to_array(tensor_proto)
        wider = NARROW.get(array.dtype.name)
        if wider:
            self._narrow.add(tensor_proto.name)
        return tvm.runtime.tensor(array.astype(wider) if wider else array)

    def _parse_graph_input(self, graph: onnx.GraphProto) -> None:
        symbols: dict[str, tirx.Var] = {}
        for value in graph.input:
            if value.name in self._nodes:
                self._inputs[value.name] = self._nodes[value.name]
                continue
            self.at = f"input '{value.name}'"
            if not value.type.HasField("tensor_type"):
                raise NotImplementedError("it is no tensor.")
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            if dtype.kind == "O":
                raise NotImplementedError("it holds strings.")
            shape = self._shape.get(value.name) or _dimensions(value, symbols)
            self._num_input += 1
            self._input_names.append(value.name)
            variable = self._new_var(self._sanitize_name(value.name), shape=shape, dtype=str(dtype))
            self._nodes[value.name] = self._inputs[value.name] = variable


def _key(node: onnx.NodeProto) -> str:
    """The rule's name: with its domain where ONNX has another operator of this name."""
    full = f"{node.domain}.{node.op_type}"
    return full if full in RULES else node.op_type


def _dimensions(value: onnx.ValueInfoProto, symbols: dict[str, tirx.Var]) -> list[Any] | None:
    """Sizes, and a variable for each symbol; dimensions without a name are all different."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    found: list[Any] = []
    for k, dim in enumerate(kind.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            found.append(dim.dim_value)
        elif dim.dim_param and dim.dim_param != "?":
            found.append(symbols.setdefault(dim.dim_param, tirx.Var(dim.dim_param, "int64")))
        else:
            found.append(tirx.Var(f"{value.name}_{k}", "int64"))
    return found


def _plain(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else value


def _all_nodes(graph: onnx.GraphProto, functions: Any = ()) -> Iterator[onnx.NodeProto]:
    for part in (graph, *functions):
        for node in part.node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from _all_nodes(attribute.g)


def _tensor(value: Value | None) -> Value | None:
    """A shape as a tensor; other values as they are."""
    return shape_constant(value) if isinstance(value, relax.Expr) and isinstance(value.ty, relax.ShapeType) else value


def _as_tuple(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Tuple:
    if isinstance(value, relax.Tuple):
        return value
    bound = bb.emit(value)
    return relax.Tuple([bb.emit(relax.TupleGetItem(bound, k)) for k in range(len(bound.ty.fields))])


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
