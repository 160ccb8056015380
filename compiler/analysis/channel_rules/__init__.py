"""One rule per operator family: which axes of its inputs and outputs must lose the same channels.

An operator without a rule keeps all that it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.attention import attention, multi_head, rotary
from lwc.compiler.analysis.channel_rules.elementwise import NARY, UNARY, elementwise, of_first
from lwc.compiler.analysis.channel_rules.joins import concat, pad, slice_, split
from lwc.compiler.analysis.channel_rules.lookups import (
    compress,
    gather,
    gather_elements,
    gather_nd,
    scatter_elements,
    scatter_nd,
)
from lwc.compiler.analysis.channel_rules.normalizations import (
    group_normalization,
    instance_normalization,
    layer_normalization,
    neighbours,
    over_axis,
    per_channel,
    pick,
    reduction,
    skip_layer_normalization,
    softmax,
    top_k,
)
from lwc.compiler.analysis.channel_rules.pooling import columns_to_image, global_pool, pool, resize, sampled
from lwc.compiler.analysis.channel_rules.products import convolution, einsum, gemm, matmul, transposed_convolution
from lwc.compiler.analysis.channel_rules.quantization import dynamic, linear
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
    **dict.fromkeys(("Dropout", "CastLike", "Bernoulli", "RandomNormalLike", "RandomUniformLike"), of_first),
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
    "GatherND": gather_nd,
    "GatherElements": gather_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Compress": compress,
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
    **dict.fromkeys(("GridSample", "RoiAlign", "MaxRoiPool"), sampled),
    "Col2Im": columns_to_image,
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
    "Attention": attention,
    "RotaryEmbedding": rotary,
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), linear),
    "DynamicQuantizeLinear": dynamic,
    **dict.fromkeys(("com.microsoft.Gelu", "com.microsoft.QuickGelu"), of_first),
    **dict.fromkeys(("com.microsoft.BiasGelu", "com.microsoft.FastGelu"), elementwise),
    "com.microsoft.SkipLayerNormalization": skip_layer_normalization,
    "com.microsoft.SkipSimplifiedLayerNormalization": skip_layer_normalization,
    "com.microsoft.MultiHeadAttention": multi_head,
}


def rule_of(node: ir.Node) -> Rule | None:
    """The rule of a node's operator; None where there is none."""
    name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    return RULES.get(name)
