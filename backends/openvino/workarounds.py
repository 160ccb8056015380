"""What OpenVINO 2026.4 gets wrong, or slow, without a word, and how it gets it right.

Softmax, LogSoftmax, Hardmax of opset 12    over all dimensions from the axis on: read as those of opset 13
grouped 1x1 Conv in int8 on CPUs with AMX   noise when a group has over 64 input channels and no multiple of 64
                                            (brgconv_avx512_amx_1x1_I8): gets float weights
Gemm with transB by a square weight that    compiled for fixed shapes and one thread, both take the weight as one of
another node reads as it is                 them does: gets a transposed weight of its own
HardSigmoid of x / 6 + 1 / 2                not fused with what is around it: clip(x + 3, 0, 6) / 6 is, into the
                                            convolution before and, times x, as HardSwish
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.model import Model
from lwc.compiler.core.opset import ensure_opset

SOFTMAX_OPSET = 13
CHANGED_OPS = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
AMX_CHANNELS = 64
CLIP_OPSET = 11  # its bounds are inputs
OTHER_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


def made_readable(model: Model) -> Model:
    """A fork without these traps; the model itself when it has none."""
    softmax = model.opset < SOFTMAX_OPSET and any(node.op_type in CHANGED_OPS for node in model.nodes())
    mends = [(_is_miscomputed, _give_float_weights), (_is_confused, _transpose_weight)]
    if model.opset >= CLIP_OPSET and not _has_other_floats(model):
        mends.append((_is_unfused, _clip_instead))
    if not softmax and not any(is_trap(node) for node in model.nodes() for is_trap, _ in mends):
        return model
    fork = model.fork()
    if softmax:
        ensure_opset(fork.ir, SOFTMAX_OPSET)
    for node in list(fork.nodes()):
        for is_trap, mend in mends:
            if is_trap(node):
                mend(node)
    return fork


def _is_miscomputed(node: ir.Node) -> bool:
    """Scope: main graph and subgraphs, where weights are constants behind a DequantizeLinear without blocks."""
    if node.op_type != "Conv" or node.attributes.get_int("group", 1) == 1:
        return False
    weight = node.inputs[1]
    dequantize = weight.producer() if weight is not None else None
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or "block_size" in dequantize.attributes:
        return False
    codes, *rest = dequantize.inputs
    if codes is None or any(value is not None and value.const_value is None for value in (codes, *rest)):
        return False
    _, channels, *kernel = codes.shape.numpy() if codes.shape is not None else (0, 0)
    return channels > AMX_CHANNELS and channels % AMX_CHANNELS != 0 and all(size == 1 for size in kernel)


def _is_confused(node: ir.Node) -> bool:
    """Scope: main graph and subgraphs, weights that are constants."""
    weight = node.inputs[1] if node.op_type == "Gemm" else None
    if weight is None or weight.const_value is None or not node.attributes.get_int("transB", 0):
        return False
    rows, columns = weight.const_value.shape.numpy()
    return rows == columns and len(weight.uses()) > 1


def _has_other_floats(model: Model) -> bool:
    """Whether there are numbers of other float types than float32, as inner values do not tell theirs."""
    values = (*model.graph.inputs, *model.graph.initializers.values(), *model.graph.outputs)
    casts = (node.attributes.get_int("to", 1) for node in model.nodes() if node.op_type == "Cast")
    types = {value.dtype for value in values} | {ir.DataType(code) for code in casts}
    return bool(types & OTHER_FLOATS)


def _is_unfused(node: ir.Node) -> bool:
    """Scope: the main graph."""
    if node.op_type != "HardSigmoid" or node.domain or not isinstance(node.graph, ir.Graph):
        return False
    slope, offset = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    return math.isclose(slope, 1 / 6, rel_tol=1e-5) and offset == 0.5


def _clip_instead(node: ir.Node) -> None:
    """clip(x + 3, 0, 6) / 6; the last node has the name and the output of the one it stands for."""
    graph, value, result = node.graph, node.inputs[0], node.outputs[0]
    assert isinstance(graph, ir.Graph)
    three, zero, six = (_constant(graph, f"{result.name}.{k}", np.array(k, np.float32)) for k in (3, 0, 6))
    added = ir.node("Add", [value, three], name=f"{node.name}.add")
    clipped = ir.node("Clip", [added.outputs[0], zero, six], name=f"{node.name}.clip")
    divided = ir.node("Div", [clipped.outputs[0], six], name=node.name)
    ir.convenience.replace_nodes_and_values(graph, node, [node], [added, clipped, divided], [result], divided.outputs)


def _transpose_weight(gemm: ir.Node) -> None:
    weight = gemm.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    _give_constant(gemm, f"{weight.name}.{gemm.outputs[0].name}.t", np.ascontiguousarray(weight.const_value.numpy().T))
    gemm.attributes.add(ir.AttrInt64("transB", 0))


def _give_float_weights(conv: ir.Node) -> None:
    """Replace the DequantizeLinear of the weights by what it computes."""
    dequantized = conv.inputs[1]
    assert dequantized is not None
    node = dequantized.producer()
    assert node is not None
    _give_constant(conv, f"{dequantized.name}.float", _dequantize(node))


def _give_constant(node: ir.Node, name: str, array: NDArray[Any]) -> None:
    """Make the array the node's second input."""
    assert isinstance(node.graph, ir.Graph)
    node.replace_input_with(1, _constant(node.graph, name, array))


def _constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    graph.register_initializer(value)
    return value


def _dequantize(node: ir.Node) -> NDArray[Any]:
    """(codes - zero) * scale, along the node's axis"""
    codes, scale, zero = (_array(node, k) for k in range(3))
    assert codes is not None
    assert scale is not None
    shape = [1] * codes.ndim
    if scale.ndim:
        shape[node.attributes.get_int("axis", 1)] = -1
    centred = codes.astype(np.float32) - (0 if zero is None else zero.astype(np.float32).reshape(shape))
    return np.asarray(centred * scale.reshape(shape), np.float32)


def _array(node: ir.Node, index: int) -> NDArray[Any] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None or value.const_value is None else value.const_value.numpy()
