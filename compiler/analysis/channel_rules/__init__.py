"""One rule per operator family: which axes of its inputs and outputs must lose the same channels.

An operator without a rule keeps all that it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.elementwise import NARY, UNARY, elementwise, of_first
from lwc.compiler.analysis.channel_rules.joins import concat, gather, pad, slice_, split
from lwc.compiler.analysis.channel_rules.normalizations import (
    group_normalization,
    instance_normalization,
    layer_normalization,
    neighbours,
    over_axis,
    per_channel,
    pick,
    reduction,
    softmax,
    top_k,
)
from lwc.compiler.analysis.channel_rules.pooling import global_pool, pool, resize
from lwc.compiler.analysis.channel_rules.products import convolution, einsum, gemm, matmul, transposed_convolution
from lwc.compiler.analysis.channel_rules.recurrent import recurrent
from lwc.compiler.analysis.channel_rules.views import (
    constant_of_shape,
    depth_to_space,
    expand,
    flatten,
    reshape,
    shape,
    space_to_depth,
    squeeze,
    tile,
    transpose,
    unsqueeze,
)
from lwc.compiler.analysis.channel_rules.walk import Walk

Rule = Callable[[ir.Node, Walk], None]

_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(UNARY, of_first),
    **dict.fromkeys(("Dropout", "CastLike"), of_first),
    **dict.fromkeys(NARY, elementwise),
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Gemm": gemm,
    "MatMul": matmul,
    "Einsum": einsum,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Pad": pad,
    "Gather": gather,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Reshape": reshape,
    "Flatten": flatten,
    "Expand": expand,
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Shape": shape,
    "ConstantOfShape": constant_of_shape,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), global_pool),
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "BatchNormalization": per_channel,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), layer_normalization),
    **dict.fromkeys(("LpNormalization", "MeanVarianceNormalization"), over_axis),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    **dict.fromkeys(("LRN", "CumSum"), neighbours),
    **dict.fromkeys(_REDUCTIONS, reduction),
    **dict.fromkeys(("ArgMax", "ArgMin"), pick),
    "TopK": top_k,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
}


def rule_of(node: ir.Node) -> Rule | None:
    """The rule of a node's operator; None where there is none."""
    name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    return RULES.get(name)
