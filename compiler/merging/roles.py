"""What a tensor is for a merge, by what reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import onnx_ir as ir

from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.model import Model

_MEAN = 3  # of BatchNormalization: its mean and its variance are inputs 3 and 4
_INTEGER_OPS = ("QuantizeLinear", "DequantizeLinear", "QLinear", "Integer", "NBits", "BlockQuantized")


class Role(str, Enum):
    """weight: merged by the method;  statistic: of batches, averaged whatever the method;  constant: equal in all;
    quantized: integer codes and their scales, of which no average means anything"""

    WEIGHT = "weight"
    STATISTIC = "statistic"
    QUANTIZED = "quantized"
    CONSTANT = "constant"


def role_of(value: ir.Value, uses: Iterable[tuple[ir.Node, int]]) -> Role:
    """The role of an initializer where these read it; quantized or a statistic if it is so for any of them."""
    readers = list(uses)
    if any(_is_quantized(node) for node, _ in readers):
        return Role.QUANTIZED
    if any(node.op_type == "BatchNormalization" and index >= _MEAN for node, index in readers):
        return Role.STATISTIC
    floats = value.const_value is not None and value.const_value.dtype.is_floating_point()
    return Role.WEIGHT if floats else Role.CONSTANT


def refuse_quantized(models: Sequence[Model]) -> None:
    """Raise BadInput naming the first tensor that holds codes or scales."""
    for model in models:
        for graph in model.ir.graphs():
            for value in graph.initializers.values():
                if role_of(value, [(use.node, use.idx) for use in value.uses()]) is Role.QUANTIZED:
                    dtype = value.const_value.dtype if value.const_value is not None else "of no type"
                    raise BadInput(
                        f"{model.name}: tensor '{value.name}' ({dtype}) is part of a quantized layer, and codes cannot "
                        "be merged.",
                        "Merge the float models, then compile the result.",
                    )


def _is_quantized(node: ir.Node) -> bool:
    return any(part in node.op_type for part in _INTEGER_OPS)
