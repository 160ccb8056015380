"""What a tensor's shape says: constants where it is static, so that what models compute from it is folded."""

from __future__ import annotations

import math
from typing import Any

from tvm import relax

from lwc.backends.tvm.lowering.expressions import const, dims_of, shape_constant, shape_of


def shape(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Shape: a slice of the dimensions; with symbolic ones it stays a shape, which TVM's converters know."""
    dims = dims_of(inputs[0])[attrs.get("start", 0) : attrs.get("end")]
    found = relax.ShapeExpr(dims)
    return shape_constant(found) if all(isinstance(dim, int) for dim in dims) else found


def size(bb: relax.BlockBuilder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """Size: of static shapes alone."""
    return const(math.prod(shape_of(inputs[0])), "int64")


RULES = {"Shape": shape, "Size": size}
