"""Well-known architectures with random weights, written as PyTorch's exporter writes them.

For speed, memory and scaling: the weights are drawn by seed (He et al. 2015) so that activations stay
around one, and logits spread by some units. Nothing here was trained. Opset 17.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from lwc.models.decoder_structure import decoder as decoder
from lwc.models.netbuilder import NetBuilder, float_value
from lwc.models.transformer_structure import bert as bert

# Gain of the last BatchNorm of a residual branch: keeps the sum of many blocks from growing.
_BRANCH_GAIN = 0.3
# He's weights double the second moment; where no ReLU halves it again, this gain (1 / sqrt(2)) does.
_LINEAR_GAIN = 0.7


def resnet18(
    batch: int | str = 1, size: int = 224, classes: int = 1000, seed: int = 0, fold: bool = True
) -> onnx.ModelProto:
    """ResNet-18 (He et al. 2016): x [batch, 3, size, size] -> logits [batch, classes]; 11.7 M weights.

    batch: a number, or a name for a dynamic axis;  fold: BatchNorm folded into Conv, as exporters do
    """
    return _resnet((2, 2, 2, 2), False, batch, size, classes, seed, fold)


def resnet50(
    batch: int | str = 1, size: int = 224, classes: int = 1000, seed: int = 0, fold: bool = True
) -> onnx.ModelProto:
    """ResNet-50 (stride in the 3x3, as torchvision): x [batch, 3, size, size] -> logits; 25.6 M weights."""
    return _resnet((3, 4, 6, 3), True, batch, size, classes, seed, fold)


def _resnet(
    depths: tuple[int, ...], bottleneck: bool,
    batch: int | str, size: int, classes: int, seed: int, fold: bool,
) -> onnx.ModelProto:  # fmt: skip
    net = NetBuilder(np.random.default_rng(seed))
    y = net.conv("x", "conv1", (3, 64), 7, stride=2, bn="bn1", fold=fold)
    y = net.node("Relu", [y])
    y = net.node("MaxPool", [y], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=0)
    channels = 64
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            with net.scope(f"layer{stage + 1}"), net.scope(f"layer{stage + 1}.{index}"):
                block = _bottleneck if bottleneck else _basic_block
                y, channels = block(net, y, channels, 64 << stage, stride, fold)
    y = net.node("GlobalAveragePool", [y])
    y = net.node("Flatten", [y], axis=1)
    net.gemm(y, "fc", (channels, classes), 3.0 / channels**0.5, output="logits")
    return net.model("resnet", [float_value("x", [batch, 3, size, size])], [float_value("logits", [batch, classes])])


def _basic_block(net: NetBuilder, x: str, channels: int, width: int, stride: int, fold: bool) -> tuple[str, int]:
    y = net.node("Relu", [net.conv(x, "conv1", (channels, width), 3, stride, bn="bn1", fold=fold)])
    y = net.conv(y, "conv2", (width, width), 3, bn="bn2", gain=_BRANCH_GAIN, fold=fold)
    return _join(net, x, y, (channels, width), stride, fold)


def _bottleneck(net: NetBuilder, x: str, channels: int, width: int, stride: int, fold: bool) -> tuple[str, int]:
    y = net.node("Relu", [net.conv(x, "conv1", (channels, width), 1, bn="bn1", fold=fold)])
    y = net.node("Relu", [net.conv(y, "conv2", (width, width), 3, stride, bn="bn2", fold=fold)])
    y = net.conv(y, "conv3", (width, 4 * width), 1, bn="bn3", gain=_BRANCH_GAIN, fold=fold)
    return _join(net, x, y, (channels, 4 * width), stride, fold)


def _join(net: NetBuilder, x: str, y: str, channels: tuple[int, int], stride: int, fold: bool) -> tuple[str, int]:
    if channels[0] != channels[1] or stride != 1:
        with net.scope("downsample"):
            x = net.conv(x, "downsample.0", channels, 1, stride, bn="downsample.1", gain=_LINEAR_GAIN, fold=fold)
    return net.node("Relu", [net.node("Add", [y, x])]), channels[1]


# Sandler et al. 2018, table 2: expansion, channels, blocks, stride of the first block.
_MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


def mobilenet_v2(
    batch: int | str = 1, size: int = 224, classes: int = 1000, seed: int = 0, fold: bool = True
) -> onnx.ModelProto:
    """MobileNetV2 (Sandler et al. 2018): x [batch, 3, size, size] -> logits; 3.5 M weights.

    Depthwise Conv, and ReLU6 as a Clip whose bounds come from Constant nodes.
    """
    net = NetBuilder(np.random.default_rng(seed))
    with net.scope("features"):
        y = _conv_relu6(net, "x", "features.0", (3, 32), 3, fold, stride=2)
        channels, index = 32, 1
        for expansion, width, blocks, stride in _MOBILENET_V2:
            for block in range(blocks):
                with net.scope(f"features.{index}"), net.scope("conv"):
                    first = stride if block == 0 else 1
                    y = _inverted_residual(net, y, (channels, width), expansion, first, fold)
                channels, index = width, index + 1
        y = _conv_relu6(net, y, f"features.{index}", (channels, 1280), 1, fold)
    y = net.node("GlobalAveragePool", [y])
    y = net.node("Flatten", [y], axis=1)
    with net.scope("classifier"):
        net.gemm(y, "classifier.1", (1280, classes), 3.0 / 1280**0.5, output="logits")
    return net.model(
        "mobilenet_v2", [float_value("x", [batch, 3, size, size])], [float_value("logits", [batch, classes])]
    )


def _conv_relu6(
    net: NetBuilder, x: str, name: str, channels: tuple[int, int], kernel: int, fold: bool,
    stride: int = 1, groups: int = 1,
) -> str:  # fmt: skip
    with net.scope(name):
        y = net.conv(x, f"{name}.0", channels, kernel, stride, groups, bn=f"{name}.1", fold=fold)
        bounds = [net.constant(np.array(bound, dtype=np.float32)) for bound in (0.0, 6.0)]
        return net.node("Clip", [y, *bounds])


def _inverted_residual(
    net: NetBuilder, x: str, channels: tuple[int, int], expansion: int, stride: int, fold: bool
) -> str:
    wide, y, index = channels[0] * expansion, x, 0
    if expansion != 1:
        y, index = _conv_relu6(net, y, "conv.0", (channels[0], wide), 1, fold), 1
    y = _conv_relu6(net, y, f"conv.{index}", (wide, wide), 3, fold, stride, wide)
    residual = stride == 1 and channels[0] == channels[1]
    names, gain = (f"conv.{index + 1}", f"conv.{index + 2}"), _BRANCH_GAIN if residual else _LINEAR_GAIN
    y = net.conv(y, names[0], (wide, channels[1]), 1, bn=names[1], gain=gain, fold=fold)
    return net.node("Add", [x, y]) if residual else y


_CHAIN_CHANNELS = 8
_LINK_NODES = 21


def chain(nodes: int, seed: int = 0) -> onnx.ModelProto:
    """A graph of exactly `nodes` nodes (1 or more), for scaling tests: x [1, 8, 8, 8] -> y [1, 8, 8, 8].

    Links of 21 nodes: Conv, Add of a constant, Relu, and the no-ops and constant-only nodes that exporters
    leave; then Identity nodes up to the count. Values neither grow nor fade, however long the chain: with
    S_i diagonal and P_i a permutation, link i computes

        y = relu(W x + b + c)    W = S_i P_i S_(i-1)^-1    c = -b
    """
    net = NetBuilder(np.random.default_rng(seed))
    y, scale = "x", np.ones(_CHAIN_CHANNELS, dtype=np.float32)
    links, rest = divmod(nodes - 1, _LINK_NODES)
    for index in range(links):
        with net.scope(f"links.{index}"):
            y, scale = _link(net, y, scale)
    for _ in range(rest):
        y = net.node("Identity", [y])
    net.node("Identity", [y], "y")
    shape = [1, _CHAIN_CHANNELS, 8, 8]
    return net.model("chain", [float_value("x", shape)], [float_value("y", shape)])


def _link(net: NetBuilder, x: str, scale: NDArray[np.float32]) -> tuple[str, NDArray[np.float32]]:
    after = net.rng.uniform(0.5, 2.0, _CHAIN_CHANNELS).astype(np.float32)
    permutation = np.eye(_CHAIN_CHANNELS, dtype=np.float32)[net.rng.permutation(_CHAIN_CHANNELS)]
    weight = net.weight(net.module("weight"), (after[:, None] * permutation / scale)[:, :, None, None])
    bias = net.gaussian((_CHAIN_CHANNELS,), 1.0)
    y = net.node("Conv", [x, weight, net.weight(net.module("bias"), bias)], kernel_shape=[1, 1])
    y = net.node("Relu", [net.node("Add", [y, net.constant(-bias[:, None, None])])])
    y = net.node("Mul", [net.node("Identity", [y]), net.constant(np.array(1, dtype=np.float32))])
    y = net.node("Reshape", [y, net.constant(np.array([0, 0, 8, -1], dtype=np.int64))])
    y = net.node("Cast", [y], to=onnx.TensorProto.FLOAT)
    y = net.node("Transpose", [net.node("Transpose", [y], perm=[0, 2, 3, 1])], perm=[0, 3, 1, 2])
    halves = net.node("Add", [net.constant(bias[:, None, None]), net.constant(-bias[:, None, None])])
    y = net.node("Dropout", [net.node("Add", [y, halves])])
    axis = np.array([0], dtype=np.int64)
    y = net.node("Unsqueeze", [y, net.constant(axis)])
    return net.node("Squeeze", [y, net.constant(axis)]), after
