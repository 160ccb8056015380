"""A decoder language model of any size with random weights, written with its weights in a file of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray

from lwc.models.netbuilder import NetBuilder, float_value, int64_value

_ALIGNMENT = 4096  # offsets of external data may be mapped into memory when they are multiples of a page
_LEAST_BYTES = 1024  # smaller tensors stay in the model file, as exporters leave them
_MASKED = -1e4


def decoder(
    path: Path,
    layers: int = 24,
    width: int = 1280,
    heads: int = 20,
    vocab: int = 10_240,
    tokens: int = 128,
    seed: int = 0,
) -> Path:
    """Write a pre-norm decoder (Radford et al. 2019) to `path`, its weights to `path` + ".data"; returns `path`.

    input:  tokens int64 [N, tokens]
    output: logits float32 [N, tokens, vocab]
    Weights are (12 width + 13) width layers + (2 vocab + tokens + 2) width: 498.7 M, 2.0 GB, by default. Each is
    written as soon as it is drawn, so that memory holds one at a time.
    """
    with _written_beside(path) as data:
        net = _ExternalNetBuilder(np.random.default_rng(seed), data=data, location=f"{path.name}.data")
        shape = _Shape(tokens, width, heads)
        with net.scope("embeddings"):
            y = net.node("Gather", [net.weight("embeddings.weight", net.gaussian((vocab, width), 1.0)), "tokens"])
            y = net.node("Add", [y, net.weight("positions", net.gaussian((tokens, width), 0.1))])
        future = net.weight("future", np.triu(np.full((tokens, tokens), _MASKED, dtype=np.float32), 1))
        for index in range(layers):
            with net.scope("blocks"), net.scope(f"blocks.{index}"):
                y = _block(net, y, future, shape)
        y = _layer_norm(net, y, "norm", width)
        with net.scope("head"):
            head = net.weight("head.weight", net.gaussian((width, vocab), width**-0.5))
            net.node("MatMul", [y, head], "logits")
        model = net.unchecked(
            "decoder", [int64_value("tokens", ["N", tokens])], [float_value("logits", ["N", tokens, vocab])]
        )
    onnx.save(model, path)
    onnx.checker.check_model(str(path))
    return path


@dataclass(frozen=True)
class _Shape:
    tokens: int
    width: int
    heads: int


@dataclass
class _ExternalNetBuilder(NetBuilder):
    """Large weights go to `data` at once; the graph gets references to `location`."""

    data: BinaryIO = field(kw_only=True)
    location: str = field(kw_only=True)

    def weight(self, name: str, values: NDArray[np.generic]) -> str:
        if values.nbytes < _LEAST_BYTES:
            return super().weight(name, values)
        self.data.write(b"\0" * (-self.data.tell() % _ALIGNMENT))
        place = {"location": self.location, "offset": str(self.data.tell()), "length": str(values.nbytes)}
        self.data.write(values.astype(values.dtype.newbyteorder("<"), copy=False).data)
        tensor = onnx.TensorProto(
            name=name, dims=values.shape, data_type=onnx.helper.np_dtype_to_tensor_dtype(values.dtype),
            data_location=onnx.TensorProto.EXTERNAL,
        )  # fmt: skip
        tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=text) for key, text in place.items())
        self.initializers.append(tensor)
        return name


@contextmanager
def _written_beside(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.data").open("wb") as data:
        yield data


def _block(net: NetBuilder, x: str, future: str, shape: _Shape) -> str:
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""
    width = shape.width
    with net.scope("attention"):
        y = _attention(net, _layer_norm(net, x, "norm", width), future, shape)
        x = net.node("Add", [x, _linear(net, y, "out", (width, width))])
    with net.scope("feed_forward"):
        y = _linear(net, _layer_norm(net, x, "norm", width), "up", (width, 4 * width))
        return net.node("Add", [x, _linear(net, _gelu(net, y), "down", (4 * width, width))])


def _attention(net: NetBuilder, x: str, future: str, shape: _Shape) -> str:
    """softmax(Q K^T / sqrt(width) + future) V, with Q, K and V from one projection."""
    width = shape.width // shape.heads
    y = _linear(net, x, "project", (shape.width, 3 * shape.width))
    y = net.node("Reshape", [y, _sizes(net, 0, shape.tokens, 3 * shape.heads, width)])
    y = net.node("Transpose", [y], perm=[0, 2, 1, 3])
    query, key, value = (_third(net, y, index, shape.heads) for index in range(3))
    key = net.node("Transpose", [key], perm=[0, 1, 3, 2])
    scores = net.node("Div", [net.node("MatMul", [query, key]), net.constant(np.array(width**0.5, dtype=np.float32))])
    weights = net.node("Softmax", [net.node("Add", [scores, future])], axis=-1)
    y = net.node("Transpose", [net.node("MatMul", [weights, value])], perm=[0, 2, 1, 3])
    return net.node("Reshape", [y, _sizes(net, 0, shape.tokens, shape.width)])


def _third(net: NetBuilder, x: str, index: int, heads: int) -> str:
    """Heads of Q, K or V: `heads` places of axis 1, from index * heads on."""
    return net.node("Slice", [x, *(_sizes(net, value) for value in (index * heads, (index + 1) * heads, 1))])


def _sizes(net: NetBuilder, *sizes: int) -> str:
    return net.constant(np.array(sizes, dtype=np.int64))


def _linear(net: NetBuilder, x: str, name: str, features: tuple[int, int]) -> str:
    """MatMul by the transposed weight, then Add."""
    with net.scope(name):
        weight = net.weight(net.module("weight"), net.gaussian(features, features[0] ** -0.5))
        bias = net.weight(net.module("bias"), net.gaussian(features[1:], 0.1))
        return net.node("Add", [bias, net.node("MatMul", [x, weight])])


def _layer_norm(net: NetBuilder, x: str, name: str, features: int) -> str:
    with net.scope(name):
        scale = net.weight(net.module("weight"), net.rng.uniform(0.8, 1.2, features).astype(np.float32))
        bias = net.weight(net.module("bias"), net.gaussian((features,), 0.1))
        return net.node("LayerNormalization", [x, scale, bias], axis=-1, epsilon=1e-5)


def _gelu(net: NetBuilder, x: str) -> str:
    """x * (1 + erf(x / sqrt(2))) * 0.5, the exporter's five nodes."""
    y = net.node("Div", [x, net.constant(np.array(2**0.5, dtype=np.float32))])
    y = net.node("Add", [net.node("Erf", [y]), net.constant(np.array(1, dtype=np.float32))])
    y = net.node("Mul", [x, y])
    return net.node("Mul", [y, net.constant(np.array(0.5, dtype=np.float32))])
