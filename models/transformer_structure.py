"""A BERT-shaped encoder with random weights, written as PyTorch's exporter writes it. Opset 17."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from lwc.models.netbuilder import NetBuilder, float_value, int64_value

_POSITIONS = 512


@dataclass(frozen=True)
class _Shape:
    batch: int | str
    tokens: int | str
    hidden: int
    heads: int

    @property
    def dynamic(self) -> bool:
        return isinstance(self.batch, str) or isinstance(self.tokens, str)


def bert(
    layers: int = 3,
    hidden: int = 384,
    heads: int = 12,
    tokens: int | str = 128,
    vocab: int = 30522,
    batch: int | str = 1,
    seed: int = 0,
) -> onnx.ModelProto:
    """BERT encoder (Devlin et al. 2019) of `layers` post-norm blocks, feed-forward width 4 * hidden.

    inputs:  input_ids, attention_mask, token_type_ids, all int64 [batch, tokens]
    outputs: last_hidden_state [batch, tokens, hidden], pooler_output [batch, hidden]
    A name instead of a number for `tokens` or `batch` makes the axis dynamic: Reshape then takes its shape
    from Shape, Gather and Concat nodes, and positions are sliced. At most 512 tokens.
    """
    net, shape = NetBuilder(np.random.default_rng(seed)), _Shape(batch, tokens, hidden, heads)
    mask = _additive_mask(net)
    with net.scope("embeddings"):
        y = _embeddings(net, vocab, shape)
    with net.scope("encoder"):
        for index in range(layers):
            with net.scope("layer"), net.scope(f"layer.{index}"):
                y = _block(net, y, mask, shape, "last_hidden_state" if index == layers - 1 else "")
    with net.scope("pooler"):
        first = net.node("Gather", [y, net.constant(np.array(0, dtype=np.int64))], axis=1)
        pooled = net.gemm(first, "dense", (hidden, hidden), hidden**-0.5)
        net.node("Tanh", [pooled], "pooler_output")
    names = ("input_ids", "attention_mask", "token_type_ids")
    outputs = [
        float_value("last_hidden_state", [batch, tokens, hidden]),
        float_value("pooler_output", [batch, hidden]),
    ]
    return net.model("bert", [int64_value(name, [batch, tokens]) for name in names], outputs)


def _additive_mask(net: NetBuilder) -> str:
    """(1 - mask) * lowest float, broadcast to [batch, 1, 1, tokens]."""
    wide = net.node("Unsqueeze", ["attention_mask", net.constant(np.array([1], dtype=np.int64))])
    wide = net.node("Unsqueeze", [wide, net.constant(np.array([2], dtype=np.int64))])
    kept = net.node("Cast", [wide], to=onnx.TensorProto.FLOAT)
    masked = net.node("Sub", [net.constant(np.array(1, dtype=np.float32)), kept])
    return net.node("Mul", [masked, net.constant(np.array(np.finfo(np.float32).min, dtype=np.float32))])


def _embeddings(net: NetBuilder, vocab: int, shape: _Shape) -> str:
    def table(name: str, rows: int) -> str:
        return net.weight(f"embeddings.{name}.weight", net.gaussian((rows, shape.hidden), 1.0))

    positions = net.weight("embeddings.position_ids", np.arange(_POSITIONS, dtype=np.int64)[None])
    start, axis = (net.constant(np.array([value], dtype=np.int64)) for value in (0, 1))
    end = (
        _dimension(net, "input_ids", 1)
        if isinstance(shape.tokens, str)
        else net.constant(np.array([shape.tokens], dtype=np.int64))
    )
    positions = net.node("Slice", [positions, start, end, axis])
    words = net.node("Gather", [table("word_embeddings", vocab), "input_ids"])
    types = net.node("Gather", [table("token_type_embeddings", 2), "token_type_ids"])
    y = net.node("Add", [words, types])
    y = net.node("Add", [y, net.node("Gather", [table("position_embeddings", _POSITIONS), positions])])
    return _layer_norm(net, y, shape.hidden)


def _block(net: NetBuilder, x: str, mask: str, shape: _Shape, output: str) -> str:
    with net.scope("attention"):
        with net.scope("self"):
            y = _attention(net, x, mask, shape)
        with net.scope("output"):
            y = _linear(net, y, "dense", (shape.hidden, shape.hidden))
            y = x = _layer_norm(net, net.node("Add", [y, x]), shape.hidden)
    with net.scope("intermediate"):
        y = _gelu(net, _linear(net, y, "dense", (shape.hidden, 4 * shape.hidden)))
    with net.scope("output"):
        y = _linear(net, y, "dense", (4 * shape.hidden, shape.hidden))
        return _layer_norm(net, net.node("Add", [y, x]), shape.hidden, output)


def _attention(net: NetBuilder, x: str, mask: str, shape: _Shape) -> str:
    """softmax(Q K^T / sqrt(width) + mask) V over `heads` heads."""
    width = shape.hidden // shape.heads
    square = (shape.hidden, shape.hidden)
    query = _split_heads(net, _linear(net, x, "query", square), shape, [0, 2, 1, 3])
    key = _split_heads(net, _linear(net, x, "key", square), shape, [0, 2, 3, 1])
    value = _split_heads(net, _linear(net, x, "value", square), shape, [0, 2, 1, 3])
    scores = net.node("MatMul", [query, key])
    scores = net.node("Div", [scores, net.constant(np.array(width**0.5, dtype=np.float32))])
    weights = net.node("Softmax", [net.node("Add", [scores, mask])], axis=-1)
    y = net.node("Transpose", [net.node("MatMul", [weights, value])], perm=[0, 2, 1, 3])
    return _reshape(net, y, [shape.hidden], shape)


def _split_heads(net: NetBuilder, x: str, shape: _Shape, perm: list[int]) -> str:
    y = _reshape(net, x, [shape.heads, shape.hidden // shape.heads], shape)
    return net.node("Transpose", [y], perm=perm)


def _reshape(net: NetBuilder, x: str, tail: list[int], shape: _Shape) -> str:
    """Reshape to [batch, tokens, *tail]."""
    if shape.dynamic:
        sizes = [_dimension(net, "input_ids", axis) for axis in (0, 1)]
        sizes += [net.constant(np.array([size], dtype=np.int64)) for size in tail]
        target = net.node("Concat", sizes, axis=0)
    else:
        target = net.constant(np.array([shape.batch, shape.tokens, *tail], dtype=np.int64))
    return net.node("Reshape", [x, target])


def _dimension(net: NetBuilder, x: str, axis: int) -> str:
    """One dimension of `x` as int64 [1], the exporter's way."""
    index = net.constant(np.array(axis, dtype=np.int64))
    size = net.node("Gather", [net.node("Shape", [x]), index], axis=0)
    return net.node("Unsqueeze", [size, net.constant(np.array([0], dtype=np.int64))])


def _linear(net: NetBuilder, x: str, name: str, features: tuple[int, int]) -> str:
    """A linear layer on [batch, tokens, features[0]]: MatMul by the transposed weight, then Add."""
    with net.scope(name):
        weight = net.weight(net.module("weight"), net.gaussian(features, features[0] ** -0.5))
        bias = net.weight(net.module("bias"), net.gaussian(features[1:], 0.1))
        return net.node("Add", [bias, net.node("MatMul", [x, weight])])


def _layer_norm(net: NetBuilder, x: str, features: int, output: str = "") -> str:
    with net.scope("LayerNorm"):
        scale = net.rng.uniform(0.8, 1.2, features).astype(np.float32)
        fields = [
            net.weight(net.module("weight"), scale),
            net.weight(net.module("bias"), net.gaussian((features,), 0.1)),
        ]
        return net.node("LayerNormalization", [x, *fields], output, axis=-1, epsilon=1e-12)


def _gelu(net: NetBuilder, x: str) -> str:
    """x * (1 + erf(x / sqrt(2))) * 0.5, the exporter's five nodes."""
    with net.scope("intermediate_act_fn"):
        y = net.node("Div", [x, net.constant(np.array(2**0.5, dtype=np.float32))])
        y = net.node("Add", [net.node("Erf", [y]), net.constant(np.array(1, dtype=np.float32))])
        y = net.node("Mul", [x, y])
        return net.node("Mul", [y, net.constant(np.array(0.5, dtype=np.float32))])
