"""Raise a model's opset, node by node, in place.

onnx.version_converter (C++) drops metadata, functions and the types it does not know, and copies every weight;
onnxscript's begins at opset 18. Here a node changes only where its operator did, and nothing else is touched.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.inference import infer_shapes
from lwc.compiler.core.opset_adapters import ADAPTERS, NEEDS_SHAPES
from lwc.compiler.core.opset_edit import Edit, Refusal, taken_names

OLDEST = 7
NEWEST = onnx.defs.onnx_opset_version()


def ensure_opset(model: ir.Model, minimum: int) -> None:
    """Raise the standard domain to at least `minimum`: main graph, subgraphs, functions.

    A model that does not import the standard domain gets it. Raises UnsupportedOpset, and then the model may be
    partly converted: work on a fork.
    """
    if not OLDEST <= minimum <= NEWEST:
        raise UnsupportedOpset(f"Opset {minimum} is unknown: onnx {onnx.__version__} has {OLDEST} to {NEWEST}.")
    version = model.opset_imports.get("", minimum)
    stale = [function for function in model.functions.values() if function.opset_imports.get("", minimum) < minimum]
    names = taken_names(model) if stale or version < minimum else set()
    if version < minimum:
        _infer_where_needed(model, version, minimum)
        _convert(model.graph, version, Edit(minimum, names, in_function=False))
    for function in stale:
        _convert(function, function.opset_imports[""], Edit(minimum, names, in_function=True))
        function.opset_imports[""] = minimum
    model.opset_imports[""] = max(version, minimum)
    _raise_ir_version(model)


def _infer_where_needed(model: ir.Model, version: int, minimum: int) -> None:
    steps = range(version + 1, minimum + 1)
    for node in model.graph.all_nodes():
        if node.domain == "" and any((node.op_type, step) in NEEDS_SHAPES for step in steps):
            first = node.inputs[0] if node.inputs else None
            if first is not None and (first.shape is None or first.dtype is None):
                infer_shapes(model)
                return


def _convert(root: ir.Graph | ir.Function, version: int, edit: Edit) -> None:
    for node in list(root.all_nodes()):
        if node.domain != "":
            continue
        for step in range(version + 1, edit.target + 1):
            adapter = ADAPTERS.get((node.op_type, step))
            if adapter is None:
                continue
            try:
                adapter(node, edit)
            except Refusal as error:
                raise UnsupportedOpset(
                    f"Node '{node.name}' ({node.op_type}) cannot be raised from opset {step - 1} to {step}: {error}."
                ) from error


def _raise_ir_version(model: ir.Model) -> None:
    """At least what the opset needs. Before version 4 initializers were graph inputs, and constant all the same."""
    if model.ir_version < 4:
        model.graph.inputs[:] = [value for value in model.graph.inputs if not value.is_initializer()]
    known = [onnx.helper.make_opsetid("", model.opset_imports[""])]
    model.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(known), 4)
