"""Write a network node by node under the names that PyTorch's exporter gives: the base of `structures`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

OPSET = 17
Attribute = int | float | str | Sequence[int] | onnx.TensorProto


@dataclass
class NetBuilder:
    """Nodes and weights in the making.

    A node's name is the module path and its operator ("/layer1/layer1.0/conv1/Conv"); its output
    adds "_output_0". Weights keep their state_dict names. Every draw comes from `rng`.
    """

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    _scope: list[str] = field(default_factory=list)
    _uses: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Nodes made inside carry `name` in their path."""
        self._scope.append(name)
        yield
        self._scope.pop()

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Attribute) -> str:
        """Append a node with one output and return the output's name."""
        path = "/".join(["", *self._scope, op])
        count = self._uses.get(path, 0)
        self._uses[path] = count + 1
        path = f"{path}_{count}" if count else path
        output = output or f"{path}_output_0"
        node = helper.make_node(op, list(inputs), [output], name=path)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return output

    def module(self, name: str) -> str:
        """State_dict path of a module: scopes "layer1", "layer1.0" and "conv1" give "layer1.0.conv1"."""
        path: list[str] = []
        for scope in [*self._scope, name]:
            if path and scope.startswith(f"{path[-1]}."):
                path.pop()
            path.append(scope)
        return ".".join(path)

    def constant(self, values: NDArray[np.generic]) -> str:
        """A Constant node, as the exporter writes shapes, axes and scalars."""
        return self.node("Constant", [], value=numpy_helper.from_array(values))

    def weight(self, name: str, values: NDArray[np.generic]) -> str:
        """An initializer."""
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def gaussian(self, shape: Sequence[int], std: float) -> NDArray[np.float32]:
        """Normal weights of the given standard deviation."""
        return self.rng.standard_normal(tuple(shape), dtype=np.float32) * np.float32(std)

    def conv(
        self, x: str, name: str, channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1,
        bn: str = "", gain: float = 1.0, fold: bool = True,
    ) -> str:  # fmt: skip
        """Conv and BatchNorm, as one Conv when `fold`: both forms compute the same from the same seed.

            W' = W * gamma / sigma      b' = beta - mean * gamma / sigma

        channels: (in, out). W has variance 2 / fan-in (He et al. 2015); gamma is around `gain`.
        """
        fan_in = channels[0] // groups * kernel * kernel
        shape = (channels[1], channels[0] // groups, kernel, kernel)
        weight = self.gaussian(shape, (2.0 / fan_in) ** 0.5)
        gamma = self.rng.uniform(0.8, 1.2, channels[1]).astype(np.float32) * np.float32(gain)
        beta, mean = self.gaussian(shape[:1], 0.1), self.gaussian(shape[:1], 0.1)
        var = self.rng.uniform(0.7, 1.3, channels[1]).astype(np.float32)
        prefix = self.module(name)
        if fold:
            scale = gamma / np.sqrt(var + np.float32(1e-5))
            folded = self.weight(f"{prefix}.weight", weight * scale[:, None, None, None])
            bias = self.weight(f"{prefix}.bias", beta - mean * scale)
            return self._conv(name, [x, folded, bias], kernel, stride, groups)
        plain = self.weight(f"{prefix}.weight", weight)
        norm = self.module(bn)
        fields = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": var}
        statistics = [self.weight(f"{norm}.{key}", values) for key, values in fields.items()]
        y = self._conv(name, [x, plain], kernel, stride, groups)
        with self.scope(bn):
            return self.node("BatchNormalization", [y, *statistics], epsilon=1e-5, momentum=0.9)

    def _conv(self, name: str, inputs: list[str], kernel: int, stride: int, groups: int) -> str:
        pads = [kernel // 2] * 4
        with self.scope(name):
            return self.node(
                "Conv", inputs, dilations=[1, 1], group=groups, kernel_shape=[kernel] * 2, pads=pads,
                strides=[stride] * 2,
            )  # fmt: skip

    def gemm(self, x: str, name: str, features: tuple[int, int], std: float, output: str = "") -> str:
        """A linear layer on [N, features[0]]: the exporter writes Gemm with transB."""
        prefix = self.module(name)
        weight = self.weight(f"{prefix}.weight", self.gaussian((features[1], features[0]), std))
        bias = self.weight(f"{prefix}.bias", self.gaussian(features[1:], 0.1))
        with self.scope(name):
            return self.node("Gemm", [x, weight, bias], output, alpha=1.0, beta=1.0, transB=1)

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished model, checked."""
        model = self.unchecked(name, inputs, outputs)
        onnx.checker.check_model(model)
        return model

    def unchecked(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished model: with external data it can be checked only where it lies."""
        graph = helper.make_graph(self.nodes, name, list(inputs), list(outputs), self.initializers)
        # IR version 8 is what opset 17 came with.
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="lwc.models"
        )


def float_value(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """A float32 input or output."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))


def int64_value(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """An int64 input or output."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.INT64, list(shape))
