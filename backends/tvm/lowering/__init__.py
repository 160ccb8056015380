"""Rules that bring ONNX operators into Relax, by operator: TVM's front end is asked for the others.

A rule takes the block builder, the inputs (None where absent), the attributes and the opset, and returns the
outputs: an expression, or a relax.Tuple of them. It raises NotImplementedError with the reason where it cannot.
The key is the operator's name; for an operator of another domain that shares its name with one of ONNX's,
'domain.name'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tvm import relax

from lwc.backends.tvm.lowering import (
    bounds,
    casts,
    control_flow,
    elementwise,
    integer_matmul,
    normalization,
    padding,
    quantized_lstm,
    recurrent,
    reductions,
    resize,
    scattering,
    sequences,
    shapes,
    suppression,
    transposed_conv,
    variadic,
    weights_in_blocks,
)

Rule = Callable[[relax.BlockBuilder, list[Any], dict[str, Any], int], relax.Expr]
SubgraphRule = Callable[[control_flow.Walker, Sequence[Any], dict[str, Any]], list[Any]]

RULES: Mapping[str, Rule] = {
    **bounds.RULES,
    **casts.RULES,
    **elementwise.RULES,
    **integer_matmul.RULES,
    **normalization.RULES,
    **padding.RULES,
    **quantized_lstm.RULES,
    **recurrent.RULES,
    **reductions.RULES,
    **resize.RULES,
    **scattering.RULES,
    **sequences.RULES,
    **shapes.RULES,
    **suppression.RULES,
    **transposed_conv.RULES,
    **variadic.RULES,
    **weights_in_blocks.RULES,
}
CONTROL_FLOW: Mapping[str, SubgraphRule] = {
    "If": control_flow.branch,
    "Loop": control_flow.loop,
    "Scan": control_flow.scan,
}
