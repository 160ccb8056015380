"""Which nodes TVM cannot import, all of them at once, and which values are known before anything has run.

The importer goes on behind a node that it cannot convert: what the node makes stands as an input of that type.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from tvm import relax, tirx

from lwc.backends.serving import STANDARD_DOMAINS
from lwc.backends.tvm.errors import plain
from lwc.backends.tvm.importer import Importer
from lwc.backends.tvm.lowering.expressions import array_of
from lwc.compiler.core.backend import Array
from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.inference import infer_shapes
from lwc.compiler.core.model import Model
from lwc.compiler.core.opset import NEWEST, ensure_opset
from lwc.compiler.core.silence import STDERR, silent

KNOWN_DOMAINS = (*STANDARD_DOMAINS, "com.microsoft")
STRANGE = {0, onnx.TensorProto.STRING, onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}
KNOWN_ELEMENTS = 1 << 16  # larger constants are cheaper to make than to store


@dataclass(frozen=True)
class Findings:
    """refused: index of a node in the main graph -> why;  known: names of values -> what they always are

    shapes: names of values that TVM makes -> their types and shapes
    """

    refused: Mapping[int, str]
    known: Mapping[str, Array]
    shapes: Mapping[str, tuple[str, tuple[int, ...]]]


def find_refusals(model: Model) -> Findings:
    """What TVM's importer and our rules say of each node of the main graph, the model's inputs being of fixed shapes.

    They see the model at the newest opset, as when it is compiled; a node that was rewritten for that is refused when
    one of those in its place is.
    """
    raised = _at_newest_opset(model)
    proto = raised.to_proto()
    inputs = [value for value in proto.graph.input if value.type.tensor_type.elem_type not in STRANGE]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)  # readers of the others are refused
    prober = _Prober(proto, [value for node in raised.graph for value in node.outputs])
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), silent(STDERR):
        warnings.simplefilter("ignore")
        prober.module()
    origins = _origins(raised, model)
    refused = {origins[index]: reason for index, reason in prober.refused.items() if index in origins}
    return Findings(refused, prober.known(), prober.shapes())


def _at_newest_opset(model: Model) -> Model:
    raised = model.fork()
    try:
        ensure_opset(raised.ir, NEWEST)
    except UnsupportedOpset:
        raised = model.fork()
    infer_shapes(raised.ir)
    return raised


def _origins(raised: Model, model: Model) -> dict[int, int]:
    """Index of a node -> index of the node of `model` that it is, or that it was put in front of."""
    places = {value.name: k for k, node in enumerate(model.graph) for value in node.outputs}
    nodes = list(raised.graph)
    found: dict[ir.Node, int] = {}
    for node in reversed(nodes):
        own = [places[value.name] for value in node.outputs if value.name in places]
        readers = [found[reader] for reader in node.successors() if reader in found]
        if own or readers:
            found[node] = (own or readers)[0]
    return {index: found[node] for index, node in enumerate(nodes) if node in found}


class _Prober(Importer):
    """refused: as in Findings;  made: values of the main graph that nodes make"""

    def __init__(self, proto: onnx.ModelProto, made: Sequence[ir.Value]) -> None:
        super().__init__(proto)
        self._made = {value.name or "": value for value in made}
        self.refused: dict[int, str] = {}

    def known(self) -> dict[str, Array]:
        """Values that nodes make and that are the same in every run."""
        arrays = ((name, _constant(self._nodes.get(name))) for name in self._made if name)
        return {name: array for name, array in arrays if array is not None and array.size <= KNOWN_ELEMENTS}

    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Types and shapes of the tensors that nodes make."""
        found = {name: getattr(self._nodes.get(name), "ty", None) for name in self._made if name}
        return {
            name: (str(kind.dtype), tuple(int(size) for size in kind.shape))
            for name, kind in found.items()
            if isinstance(kind, relax.TensorType) and _is_fixed(kind.shape)
        }

    def _parse_graph_initializers(self, graph: onnx.GraphProto) -> None:
        """Readers of those of types that TVM has not are refused."""
        for tensor in graph.initializer:
            with contextlib.suppress(Exception):
                self._nodes[tensor.name] = relax.const(self._parse_array(tensor))

    def _results(self) -> relax.Expr:
        for index, node in enumerate(self._graph.node):
            reason = self._unknown(node) or self._attempt(node)
            if reason:
                self.refused[index] = reason
                self._stand_in(node)
        return relax.Tuple([])

    def _unknown(self, node: onnx.NodeProto) -> str:
        if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in self._functions:
            return f"TVM knows no operators of '{node.domain}'."
        missing = next((name for name in node.input if name and name not in self._nodes), None)
        return "" if missing is None else f"It reads '{missing}', whose type or shape TVM does not know."

    def _attempt(self, node: onnx.NodeProto) -> str:
        try:
            self._convert(node)
        except Exception as error:
            return plain(error)
        made = [self._nodes[name] for name in node.output if name]
        return "" if all(_is_static(value) for value in made) else "The shape of what it makes depends on values."

    def _stand_in(self, node: onnx.NodeProto) -> None:
        for name in node.output:
            value = self._made.get(name)
            self._nodes.pop(name, None)
            if value is not None and value.dtype is not None and value.shape is not None and value.shape.is_static():
                with contextlib.suppress(Exception):
                    self._nodes[name] = self._new_var("v", list(value.shape.numpy()), str(value.dtype.numpy()))


def _is_static(value: Any) -> bool:
    """Whether all sizes of a value, or of all values of a tuple, are known."""
    if isinstance(value, relax.Tuple):
        return all(_is_static(field) for field in value.fields)
    kind = getattr(value, "ty", None)
    if isinstance(kind, relax.ShapeType):
        return kind.values is not None and all(isinstance(size, tirx.IntImm) for size in kind.values)
    return isinstance(kind, relax.TensorType) and _is_fixed(kind.shape)


def _is_fixed(shape: Any) -> bool:
    return isinstance(shape, relax.ShapeExpr) and all(isinstance(size, tirx.IntImm) for size in shape)


def _constant(value: Any) -> Array | None:
    """The array that an expression always is; None when that is not known."""
    return np.array([int(size) for size in value], np.int64) if _is_fixed(value) else array_of(value)
