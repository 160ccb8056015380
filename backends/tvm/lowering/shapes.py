"""What a tensor's shape says: constants where it is static, so that what models compute from it is folded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map, onnx_input

from lwc.backends.tvm.lowering.expressions import array_of, const, dims_of, shape_constant, shape_of


def shape(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Shape: a slice of the dimensions; with symbolic ones it stays a shape, which TVM's converters know."""
    dims = dims_of(inputs[0])[attrs.get("start", 0) : attrs.get("end")]
    found = relax.ShapeExpr(dims)
    return shape_constant(found) if all(isinstance(dim, int) for dim in dims) else found


def size(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Size: of static shapes alone."""
    return const(math.prod(shape_of(inputs[0])), "int64")


def expand(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Expand: to a shape that is constant, or made of dimensions."""
    _refuse_computed(inputs[1:], "the shape")
    return _get_convert_map()["Expand"].get_converter(opset)(bb, onnx_input(inputs), attrs, [{}, {}])


def slice_(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Slice: from and to places that are constant, or made of dimensions."""
    _refuse_computed(inputs[1:], "where it begins and ends")
    return _get_convert_map()["Slice"].get_converter(opset)(bb, onnx_input(inputs), attrs, [{}, {}])


def _refuse_computed(values: Sequence[Any], what: str) -> None:
    """TVM 0.27 makes tensors of the wrong shape, or none, of sizes that are known only when the model runs."""
    tensors = [value for value in values if isinstance(getattr(value, "ty", None), relax.TensorType)]
    if any(array_of(value) is None for value in tensors):
        raise NotImplementedError(f"{what} must be constant.")


def concat(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Concat: without empty constants, which TVM 0.27 cannot read back from a library."""
    arrays = [array_of(value) for value in inputs]
    kept = [value for value, array in zip(inputs, arrays, strict=True) if array is None or array.size]
    return _get_convert_map()["Concat"].get_converter(opset)(bb, onnx_input(kept or inputs), attrs, [{}, {}])


RULES = {"Concat": concat, "Expand": expand, "Shape": shape, "Size": size, "Slice": slice_}
