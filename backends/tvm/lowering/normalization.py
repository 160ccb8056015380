"""Normalizations with all their outputs, over any axes."""

from __future__ import annotations

from typing import Any

import onnx
from tvm import relax

from lwc.backends.tvm.legalize_band import band
from lwc.backends.tvm.lowering.expressions import Builder, dims_of, dtype_of, like, shape_of


def layer_norm(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """LayerNormalization: one Relax operator where only the result is asked for, else with mean and 1 / deviation."""
    x, scale, bias = [*inputs, None][:3]
    rank = len(dims_of(x))
    axes = list(range(attrs.get("axis", -1) % rank, rank))
    epsilon = attrs.get("epsilon", 1e-5)
    if attrs["tvm_custom"]["num_outputs"] == 1 and len(axes) == 1 and len(dims_of(scale)) == 1:
        shift = relax.op.zeros_like(scale) if bias is None else bias
        return relax.op.nn.layer_norm(x, scale, shift, axes=axes, epsilon=epsilon)
    kind = dtype_of(x)
    wide = str(onnx.helper.tensor_dtype_to_np_dtype(attrs.get("stash_type", onnx.TensorProto.FLOAT)))
    data = relax.op.astype(x, wide) if wide != kind else x
    mean = bb.emit(relax.op.mean(data, axes, keepdims=True))
    centred = bb.emit(relax.op.subtract(data, mean))
    inverse = bb.emit(_inverse_root(bb, relax.op.mean(relax.op.multiply(centred, centred), axes, True), epsilon))
    normal = relax.op.multiply(centred, inverse)
    result = relax.op.multiply(relax.op.astype(normal, kind) if wide != kind else normal, scale)
    result = result if bias is None else relax.op.add(result, bias)
    return relax.Tuple([bb.emit(result), mean, inverse])


def rms_norm(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """RMSNormalization: x / sqrt(mean(x^2) + epsilon) * scale, over the axes from `axis` on."""
    x, scale = inputs[0], inputs[1]
    rank = len(dims_of(x))
    axes = list(range(attrs.get("axis", -1) % rank, rank))
    kind = dtype_of(x)
    wide = str(onnx.helper.tensor_dtype_to_np_dtype(attrs.get("stash_type", onnx.TensorProto.FLOAT)))
    data = bb.emit(relax.op.astype(x, wide)) if wide != kind else x
    squares = relax.op.mean(relax.op.multiply(data, data), axes, keepdims=True)
    normal = relax.op.multiply(data, _inverse_root(bb, squares, attrs.get("epsilon", 1e-5)))
    return relax.op.multiply(relax.op.astype(normal, kind) if wide != kind else normal, scale)


def _inverse_root(bb: Builder, value: relax.Expr, epsilon: float) -> relax.Expr:
    bound = bb.emit(value)
    return relax.op.divide(like(1.0, bound), relax.op.sqrt(relax.op.add(bound, like(epsilon, bound))))


def lp_norm(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """LpNormalization: x / ||x||_p along one axis; zeros stay zeros."""
    (x,) = inputs
    axis = attrs.get("axis", -1)
    if attrs.get("p", 2) == 1:
        norm = relax.op.sum(relax.op.abs(x), axis, keepdims=True)
    else:
        norm = relax.op.sqrt(relax.op.sum(relax.op.multiply(x, x), axis, keepdims=True))
    norm = bb.emit(norm)
    zero = relax.op.equal(norm, like(0.0, norm))
    return relax.op.where(zero, like(0.0, x), relax.op.divide(x, relax.op.where(zero, like(1.0, norm), norm)))


def local_response_norm(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """LRN: x (bias + alpha / size * squares of `size` channels around)^-beta; a convolution, which has any layout."""
    (x,) = inputs
    rank, size = len(dims_of(x)), attrs["size"]
    if rank not in (3, 4):
        raise NotImplementedError(f"LRN of {rank} axes")
    weight = band(shape_of(x)[1], (size - 1) // 2, size, attrs.get("alpha", 1e-4) / size)
    squares = bb.emit(relax.op.multiply(x, x))
    image = squares if rank == 4 else bb.emit(relax.op.expand_dims(squares, 3))
    mean = bb.emit(relax.op.nn.conv2d(image, relax.const(weight[:, :, None, None].astype(dtype_of(x)))))
    mean = mean if rank == 4 else bb.emit(relax.op.squeeze(mean, [3]))
    base = bb.emit(relax.op.add(mean, like(attrs.get("bias", 1.0), x)))
    if attrs.get("beta", 0.75) == 0.75:  # what everyone takes: roots cost half of what exp and log do
        root = bb.emit(relax.op.sqrt(base))
        return relax.op.divide(x, relax.op.multiply(root, relax.op.sqrt(root)))
    power = relax.op.multiply(relax.op.log(base), like(-attrs["beta"], x))
    return relax.op.multiply(x, relax.op.exp(power))


def batch_norm(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """BatchNormalization; in training mode by the batch's own statistics, with the running ones updated."""
    x, scale, bias, mean, variance = inputs
    epsilon, momentum = attrs.get("epsilon", 1e-5), attrs.get("momentum", 0.9)
    if not attrs.get("training_mode", 0):
        call = relax.op.nn.batch_norm(x, scale, bias, mean, variance, 1, epsilon, momentum=momentum, training=False)
        return relax.TupleGetItem(bb.emit(call), 0)
    rank = len(shape_of(x))
    axes = [axis for axis in range(rank) if axis != 1]
    spread = [-1 if axis == 1 else 1 for axis in range(rank)]
    own = bb.emit(relax.op.mean(x, axes, keepdims=True))
    centred = bb.emit(relax.op.subtract(x, own))
    spread_of = bb.emit(relax.op.mean(relax.op.multiply(centred, centred), axes, keepdims=True))
    normal = relax.op.multiply(centred, _inverse_root(bb, spread_of, epsilon))
    scaled = relax.op.multiply(normal, relax.op.reshape(scale, spread))
    running = [
        relax.op.add(
            relax.op.multiply(old, like(momentum, old)),
            relax.op.multiply(relax.op.reshape(new, [-1]), like(1 - momentum, old)),
        )
        for old, new in ((mean, own), (variance, spread_of))
    ]
    return relax.Tuple([relax.op.add(scaled, relax.op.reshape(bias, spread)), *running])


RULES = {
    "BatchNormalization": batch_norm,
    "LRN": local_response_norm,
    "LayerNormalization": layer_norm,
    "LpNormalization": lp_norm,
    "RMSNormalization": rms_norm,
}
