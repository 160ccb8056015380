"""Types of ONNX as torch has them. Floats of 16 bits are computed in 32: few CPU kernels of torch take them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

_DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float32,
    ir.DataType.BFLOAT16: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
}


def torch_dtype(code: int) -> torch.dtype:
    """The type that stands for one of ONNX. Raises KeyError for those that torch cannot compute with."""
    return _DTYPES[ir.DataType(code)]


def is_known(dtype: ir.DataType | None) -> bool:
    """Whether values of this type can be computed."""
    return dtype is None or dtype in _DTYPES


def to_torch(array: NDArray[np.generic]) -> Tensor:
    """A copy of the array that may be differentiated."""
    wide = array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array
    return torch.from_numpy(np.array(wide))
