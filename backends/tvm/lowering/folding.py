"""Small constants are computed while the graph is imported: what models do with shapes, counters of unrolled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from lwc.backends.tvm.lowering.expressions import Array, Value, array_of, const
from lwc.compiler.core.reference import computed

LIMIT = 16384  # elements: larger constants stay with the compiler
NATIVE = "fiub"  # kinds of NumPy types that the reference implementation computes exactly
FOLDABLE = frozenset(
    {
        *("Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten"),
        *("Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod"),
        *("Mul", "Neg", "NonZero", "Not", "Or", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum"),
        *("Relu", "Reshape", "ScatterElements", "ScatterND", "Shape", "Sign", "Size", "Slice", "Split", "Sqrt"),
        *("Squeeze", "Sub", "Sum", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor"),
    }
)


def folded(node: onnx.NodeProto, inputs: Sequence[Value | None], opset: int) -> list[Value] | None:
    """The node's outputs as constants; None where they are not to be computed here."""
    if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        return [_literal(node.attribute[0])]
    if node.op_type not in FOLDABLE or node.domain not in ("", "ai.onnx") or not inputs:
        return None
    arrays = [array_of(value) for value in inputs]
    if any(array is None and value is not None for array, value in zip(arrays, inputs, strict=True)):
        return None
    if not _worth_it(node, [array for array in arrays if array is not None]):
        return None
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    found = computed(node.op_type, opset, arrays, len(node.output), attributes)
    if found is None or not all(_is_native(array) for array in found):
        return None
    return [const(array) for array in found]


def _literal(attribute: onnx.AttributeProto) -> Value:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return const(onnx.numpy_helper.to_array(value))
    if attribute.name in ("value_int", "value_ints"):
        return const(value, "int64")
    if attribute.name in ("value_float", "value_floats"):
        return const(value, "float32")
    raise NotImplementedError(f"{attribute.name} is not known to TVM.")


def _worth_it(node: onnx.NodeProto, arrays: Sequence[Array]) -> bool:
    if not arrays or not all(_is_native(array) and array.size <= LIMIT for array in arrays):
        return False
    if node.op_type in ("ConstantOfShape", "Expand", "Tile"):
        return float(np.prod(arrays[-1].astype(np.float64))) * max(arrays[0].size, 1) <= LIMIT
    if node.op_type == "Range":
        start, limit, step = (float(array.reshape(-1)[0]) for array in arrays)
        return step != 0 and (limit - start) / step <= LIMIT
    if node.op_type in ("Div", "Mod") and arrays[1].dtype.kind in "iu":
        return bool(arrays[1].all())  # what division by zero gives differs from runtime to runtime
    if node.op_type == "Cast":
        return _casts_exactly(node, arrays[0])
    return True


def _casts_exactly(node: onnx.NodeProto, array: Array) -> bool:
    """Between native types; from float to integer only what fits."""
    to = onnx.helper.tensor_dtype_to_np_dtype(onnx.helper.get_node_attr_value(node, "to"))
    if to.kind not in NATIVE or to.name == "bfloat16":
        return False
    if to.kind in "iu" and array.dtype.kind == "f":
        limits = np.iinfo(to)
        return bool(np.isfinite(array).all() and (array >= limits.min).all() and (array < float(limits.max)).all())
    return True


def _is_native(array: Any) -> bool:
    return isinstance(array, (np.ndarray, np.generic)) and array.dtype.kind in NATIVE and array.dtype.isbuiltin == 1
