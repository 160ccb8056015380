"""Whether the data of a tensor fit its type and shape (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)."""

from __future__ import annotations

import math
from fractions import Fraction

import onnx
import onnx_ir as ir

from lwc.compiler.core.errors import BadExternalData, InvalidGraph
from lwc.compiler.core.external import DataFolder, stored_bytes

# Where a type's values lie when not in raw_data, and how many entries each takes; the others' are in int32_data.
_FIELDS = {
    ir.DataType.STRING: ("string_data", Fraction(1)),
    ir.DataType.FLOAT: ("float_data", Fraction(1)),
    ir.DataType.COMPLEX64: ("float_data", Fraction(2)),
    ir.DataType.DOUBLE: ("double_data", Fraction(1)),
    ir.DataType.COMPLEX128: ("double_data", Fraction(2)),
    ir.DataType.INT64: ("int64_data", Fraction(1)),
    ir.DataType.UINT32: ("uint64_data", Fraction(1)),
    ir.DataType.UINT64: ("uint64_data", Fraction(1)),
    ir.DataType.INT4: ("int32_data", Fraction(1, 2)),
    ir.DataType.UINT4: ("int32_data", Fraction(1, 2)),
    ir.DataType.FLOAT4E2M1: ("int32_data", Fraction(1, 2)),
    ir.DataType.INT2: ("int32_data", Fraction(1, 4)),
    ir.DataType.UINT2: ("int32_data", Fraction(1, 4)),
}


def check_weight(
    tensor: onnx.TensorProto,
    raw: memoryview | None,
    folder: DataFolder,
    model: str,
    declared: onnx.ValueInfoProto | None = None,
) -> None:
    """Raise what does not fit. raw: its raw data when they were taken out;  declared: the graph input of its name.

    Raises InvalidGraph, BadExternalData.
    """
    check_tensor(tensor, raw, folder, model)
    kind = declared.type.tensor_type if declared is not None else None
    if kind is None or not kind.HasField("shape"):
        return
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    fits = len(sizes) == len(tensor.dims) and all(a in (None, b) for a, b in zip(sizes, tensor.dims, strict=True))
    if not fits or kind.elem_type != tensor.data_type:
        raise InvalidGraph(f"{model}: initializer '{tensor.name}' has another type or shape than the input it sets.")


def check_tensor(tensor: onnx.TensorProto, raw: memoryview | None, folder: DataFolder, model: str) -> None:
    """Raise when the tensor's type is unknown, a dimension is negative, or its data are too few or too many."""
    what = f"{model}: tensor '{tensor.name}'"
    dtype = _dtype(tensor, what)
    shape = list(tensor.dims)
    if any(dimension < 0 for dimension in shape):
        raise InvalidGraph(f"{what} has the shape {shape}.")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        if dtype == ir.DataType.STRING:
            raise BadExternalData(f"{what} holds strings, which cannot be external data.")
        folder.find(tensor)
        return
    if raw is not None or tensor.HasField("raw_data"):
        unit, has = "bytes", len(tensor.raw_data if raw is None else raw)
        needs = -1 if dtype == ir.DataType.STRING else stored_bytes(tensor)
    else:
        name, entries = _FIELDS.get(dtype, ("int32_data", Fraction(1)))
        unit, has = "values", len(getattr(tensor, name))
        needs = math.ceil(math.prod(shape) * entries)
    if has != needs:
        wanted = f"needs {needs} {unit}" if needs >= 0 else "takes no raw data"
        raise InvalidGraph(f"{what} of type {dtype} and shape {shape} {wanted} and has {has}.")


def _dtype(tensor: onnx.TensorProto, what: str) -> ir.DataType:
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError as error:
        raise InvalidGraph(f"{what} has the unknown type {tensor.data_type}.") from error
    if dtype == ir.DataType.UNDEFINED:
        raise InvalidGraph(f"{what} has no type.")
    return dtype
