"""Attention of opset 23, and rotary embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lwc.compiler.recover.operators.attributes import Attributes

Operator = Callable[..., object]

_MASKED = -1e30  # finite: a row without anything to look at has a derivative
_UNKNOWN = frozenset({"left_window_size", "right_window_size"})


def attention(
    a: Attributes,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Y = softmax(scale Q K^T + mask) V, by heads; queries of one group share a key's head.

    Q [batch, heads, time, size], or [batch, time, heads * size] with the numbers of heads as attributes.
    """
    if lengths is not None or _UNKNOWN & set(a.node.attributes):
        raise NotImplementedError("Attention with lengths or windows")
    flat = q.ndim == 3
    if flat:
        q = _heads(q, a.integer("q_num_heads"))
        k, v = (_heads(x, a.integer("kv_num_heads")) for x in (k, v))
    past = 0 if past_key is None else past_key.shape[2]
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    present = (k, v)
    shared = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(shared, 1) for x in (k, v))
    scores = q @ k.mT * a.number("scale", q.shape[-1] ** -0.5)
    cap = a.number("softcap")
    scores = cap * torch.tanh(scores / cap) if cap else scores
    if a.flag("is_causal"):
        earlier = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(past)
        scores = scores.masked_fill(~earlier, _MASKED)
    if mask is not None:
        scores = scores.masked_fill(~mask, _MASKED) if mask.dtype == torch.bool else scores + mask
    y = torch.softmax(scores, -1) @ v
    return (y.transpose(1, 2).flatten(2) if flat else y), *present


def rotary(a: Attributes, x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None = None) -> Tensor:
    """Pairs of numbers of each head are turned by the angle of their place.

    x: [batch, heads, time, size] or [batch, time, heads * size];  cos, sin: [batch, time, half], or [places, half]
    """
    flat = x.ndim == 3
    y = _heads(x, a.integer("num_heads")) if flat else x
    if places is not None:
        cos, sin = cos[places], sin[places]
    turned, kept = y[..., : 2 * cos.shape[-1]], y[..., 2 * cos.shape[-1] :]
    c, s = cos.unsqueeze(1), sin.unsqueeze(1)
    if a.flag("interleaved"):
        one, two = turned[..., ::2], turned[..., 1::2]
        found = torch.stack([one * c - two * s, one * s + two * c], -1).flatten(-2)
    else:
        one, two = turned.chunk(2, -1)
        found = torch.cat([one * c - two * s, one * s + two * c], -1)
    y = torch.cat([found, kept], -1)
    return y.transpose(1, 2).flatten(2) if flat else y


def _heads(x: Tensor, count: int) -> Tensor:
    """[batch, time, heads * size] -> [batch, heads, time, size]"""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


OPERATORS: Mapping[str, Operator] = {"Attention": attention, "RotaryEmbedding": rotary}
