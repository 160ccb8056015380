"""What runtimes compute in 16-bit floats, by device: nodes of other operators stay in float32.

cuda    ONNX Runtime's CUDA provider has kernels for these (docs/OperatorKernels.md of its repository, 1.31). A fp16
        node without one would run on the CPU between copies; a bf16 node without one is refused at load.
cpu     ONNX Runtime computes fp16 through casts to float32 where it has no kernel, so every node runs, none faster.
        For bf16 it has kernels that move values and no others; runtimes that take bf16 as a hint need no types.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from lwc.passes.precision.float_types import BFLOAT16, FLOAT16

_BOTH_ON_CUDA = frozenset(
    {
        "Abs", "Add", "Attention", "AveragePool", "Cast", "Compress", "Concat", "Conv", "Div", "Dropout", "Erf", "Exp",
        "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "HardSigmoid", "HardSwish",
        "Identity", "IsInf", "IsNaN", "LayerNormalization", "MatMul", "Max", "Min", "Mod", "Mul", "Neg", "Pow",
        "RMSNormalization", "ReduceSum", "Relu", "Reshape", "ReverseSequence", "RotaryEmbedding", "ScatterElements",
        "ScatterND", "Sigmoid", "Sign", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh",
        "TensorScatter", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
    }
)  # fmt: skip
_HALF_ON_CUDA = _BOTH_ON_CUDA | {
    "ArgMax", "ArgMin", "BatchNormalization", "Ceil", "Clip", "ConvTranspose", "Cos", "CumSum", "DepthToSpace",
    "DequantizeLinear", "Einsum", "Elu", "Equal", "Floor", "GRU", "GlobalAveragePool", "GlobalMaxPool", "Greater",
    "GreaterOrEqual", "InstanceNormalization", "LRN", "LSTM", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "LogSoftmax", "MaxPool", "NonZero", "OneHot", "PRelu", "Pad", "QuantizeLinear", "RNN", "Reciprocal", "ReduceL1",
    "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare", "Resize", "Round", "Scatter", "Selu", "Shrink", "Sin", "Softplus", "Softsign",
    "SpaceToDepth", "ThresholdedRelu", "TopK", "Upsample",
}  # fmt: skip

# (device, format) -> operators; a pair that is absent runs every operator.
_KERNELS: Mapping[tuple[str, ir.DataType], frozenset[str]] = {
    ("cuda", FLOAT16): _HALF_ON_CUDA,
    ("cuda", BFLOAT16): _BOTH_ON_CUDA,
    ("cpu", BFLOAT16): frozenset(),
}


def has_kernel(device: str, op_type: str, dtype: ir.DataType) -> bool:
    """Whether a runtime for the device (Target.device) computes the operator in this format."""
    kernels = _KERNELS.get((device, dtype))
    return kernels is None or op_type in kernels
