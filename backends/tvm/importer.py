"""ONNX into Relax: TVM's front end, with our own rules for the operators that it lacks or gets wrong."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from tvm import IRModule, relax
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter, _get_convert_map

from lwc.backends.tvm.lowering import RULES
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model


def import_model(model: Model, shapes: Mapping[str, Sequence[int]] | None = None) -> IRModule:
    """A Relax module whose function `main` takes the graph's inputs, weights as constants.

    shapes: of inputs with dynamic dimensions, by name
    Raises UnsupportedOperator, naming the node and what TVM says of it.
    """
    proto = model.to_proto()
    importer = Importer(shapes)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return importer.from_onnx(proto.graph, opset_of(proto))
        except Exception as error:
            raise UnsupportedOperator(f"{model.name}: TVM cannot take {importer.at}: {_first_line(error)}") from error


class Importer(ONNXGraphImporter):
    """TVM's importer, asking our rules first.

    at: the node that is being converted, for messages
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]] | None) -> None:
        super().__init__({name: list(shape) for name, shape in (shapes or {}).items()}, "float32", sanitize=True)
        self.at = "the graph"

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        known = _get_convert_map()
        for node in graph.node:
            if node.op_type not in RULES and node.op_type not in known and node.op_type != "If":
                self.at = f"'{node.name}' ({node.op_type})"
                raise NotImplementedError("no rule imports this operator.")

    def _convert_operator(self, op_name: str, inputs: Any, attrs: dict[str, Any], opset: int) -> relax.Expr:
        self.at = f"'{attrs['tvm_custom']['name']}' ({op_name})"
        rule = RULES.get(op_name)
        if rule is None:
            return super()._convert_operator(op_name, inputs, attrs, opset)
        result = rule(self.bb, list(inputs), attrs, opset)
        return self.bb.normalize(result) if isinstance(result, relax.Expr) else result


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the standard operators that the model uses."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
