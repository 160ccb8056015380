"""Values of standard operators on constants: which can be computed exactly, how large, and what they are.

The numbers come from onnx's reference implementation, for operators where it agrees with ONNX Runtime to the last
bits (tests/passes/canonicalize/test_evaluate.py feeds both every node case of the onnx package).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.reference import computed
from lwc.passes.edit import Array, is_op

Tensors = Sequence[ir.TensorProtocol | None]
Size = Callable[[ir.Node, Tensors], int]

NATIVE = frozenset(
    {
        ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BOOL,
        ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64,
        ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64,
    }
)  # fmt: skip


def elements(node: ir.Node, tensors: Tensors) -> int | None:
    """How many elements the results of a foldable node hold, known without computing them; None: not foldable."""
    size = SIZES.get(node.op_type)
    if size is None or not is_op(node, node.op_type) or any(a.is_ref() for a in node.attributes.values()):
        return None
    if any(tensor is not None and tensor.dtype not in NATIVE for tensor in tensors):
        return None
    try:
        return size(node, tensors)
    except (ValueError, IndexError, TypeError, AttributeError, ZeroDivisionError, OverflowError):
        return None  # an invalid node: the runtime will say so


def evaluate(node: ir.Node, tensors: Tensors, version: int) -> list[ir.TensorProtocol] | None:
    """The outputs as tensors; None when the reference implementation refuses, or gives an unexpected type.

    version: opset of the standard domain
    """
    if (node.op_type == "Cast" and not _casts_exactly(node, tensors[0])) or _divides_by_zero(node, tensors):
        return None
    attributes = {a.name: _plain(a) for a in node.attributes.values()}
    arrays = [None if tensor is None else tensor.numpy() for tensor in tensors]
    found = computed(node.op_type, version, arrays, len(node.outputs), attributes)
    if found is None or len(found) < len(node.outputs):
        return None
    if not all(_expected(result, output) for result, output in zip(found, node.outputs, strict=False)):
        return None
    return [ir.tensor(np.ascontiguousarray(r).reshape(np.shape(r))) for r in found]


def _expected(result: Any, output: ir.Value) -> bool:
    if not isinstance(result, (np.ndarray, np.generic)) or result.dtype == np.object_:
        return False
    return output.dtype is None or output.dtype == ir.DataType.from_numpy(result.dtype)


def _plain(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        return ir.to_proto(attribute.as_tensor())
    return list(attribute.value) if isinstance(attribute.value, tuple) else attribute.value


def _casts_exactly(node: ir.Node, tensor: ir.TensorProtocol | None) -> bool:
    """Between native types; float to integer only where the value fits (else runtimes differ)."""
    to = node.attributes.get_int("to", 0)
    if tensor is None or to not in set(NATIVE):
        return False
    target = ir.DataType(to).numpy()
    if not np.issubdtype(target, np.integer) or not np.issubdtype(tensor.dtype.numpy(), np.floating):
        return True
    array = tensor.numpy()
    limits = np.iinfo(target)
    return bool(np.isfinite(array).all() and (array >= limits.min).all() and (array < float(limits.max)).all())


def _divides_by_zero(node: ir.Node, tensors: Tensors) -> bool:
    """Integer division by zero: undefined, and a crash in some runtimes."""
    divisor = tensors[1] if node.op_type in ("Div", "Mod") else None
    return divisor is not None and divisor.dtype.is_integer() and not divisor.numpy().all()


def _array(tensors: Tensors, index: int) -> Array:
    tensor = tensors[index]
    if tensor is None:
        raise IndexError(index)
    return tensor.numpy()


def _shape(tensors: Tensors, index: int = 0) -> tuple[int, ...]:
    return tuple(_array(tensors, index).shape)


def _product(dims: Sequence[int]) -> int:
    total = 1
    for dim in dims:
        total *= int(dim)
    return total


def _same(node: ir.Node, tensors: Tensors) -> int:
    return int(_array(tensors, 0).size)


def _sum(node: ir.Node, tensors: Tensors) -> int:
    return sum(int(t.size) for t in tensors if t is not None)


def _broadcast(node: ir.Node, tensors: Tensors) -> int:
    return _product(np.broadcast_shapes(*(tuple(t.numpy().shape) for t in tensors if t is not None)))


def _matmul(node: ir.Node, tensors: Tensors) -> int:
    a, b = _shape(tensors), _shape(tensors, 1)
    return _product(np.broadcast_shapes(a[:-2], b[:-2])) * _product(a[-2:-1]) * _product(b[-1:])


def _expand(node: ir.Node, tensors: Tensors) -> int:
    return _product(np.broadcast_shapes(_shape(tensors), tuple(_array(tensors, 1).tolist())))


def _tile(node: ir.Node, tensors: Tensors) -> int:
    return _same(node, tensors) * _product(_array(tensors, 1).tolist())


def _filled(node: ir.Node, tensors: Tensors) -> int:
    return _product(_array(tensors, 0).tolist())


def _range(node: ir.Node, tensors: Tensors) -> int:
    start, limit, delta = (_array(tensors, k).item() for k in range(3))
    return max(int(np.ceil((limit - start) / delta)), 0)


def _gather(node: ir.Node, tensors: Tensors) -> int:
    dims = _shape(tensors)
    axis = node.attributes.get_int("axis", 0)
    return _product(dims[:axis]) * _product(_shape(tensors, 1)) * _product(dims[axis:][1:])


def _vector(node: ir.Node, tensors: Tensors) -> int:
    return len(_shape(tensors)) * max(_same(node, tensors), 1)


_ELEMENTWISE = (
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Floor", "Ceil", "Sign",
    "Min", "Max", "Sum", "Mean", "Relu", "Sigmoid", "Tanh", "Sin", "Cos", "Clip", "Where", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not",
)  # fmt: skip
_VIEWS = (
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Slice", "Shape", "Size", "Split",
)  # fmt: skip
_REDUCTIONS = ("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceMean")

SIZES: Mapping[str, Size] = {
    **dict.fromkeys(_ELEMENTWISE, _broadcast),
    **dict.fromkeys(_VIEWS, _same),
    **dict.fromkeys(_REDUCTIONS, _same),
    "Concat": _sum,
    "MatMul": _matmul,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Gather": _gather,
    "NonZero": _vector,
}
