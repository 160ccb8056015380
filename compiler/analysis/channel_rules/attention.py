"""Attention in one operator: heads, and within them what queries share with keys and what values pass on.

    scores = scale * q k^T        y = softmax(scores) v        q [.., H, T, D], k [.., KV, S, D], v [.., KV, S, E]

H = KV x repeats. Where heads are not an axis of their own they are the outer factor of the last one.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.elementwise import broadcast
from lwc.compiler.analysis.channel_rules.walk import Axes, Axis, Walk, input_at

COMPARED = "all its positions are compared"


def attention(node: ir.Node, walk: Walk) -> None:
    """Attention of opset 23: inputs [B, heads, T, D], or [B, T, heads x D] with the heads in attributes."""
    query, key, value = (_heads(node, walk, index) for index in range(3))
    if query is None or key is None or value is None:
        return
    flat = len(walk.axes(node, 0)) == 3
    made = _attend(node, walk, query, key, value)
    if input_at(node, 3) is not None:
        _mask(node, walk, walk.axes(node, 3), query[1])
    if len(node.outputs) > 1 or input_at(node, 4) is not None:
        _cache(node, walk, (key, value))
    _say_scale(node, walk, query[3])
    walk.give(node, (made[0], made[2], walk.join([made[1], made[3]])) if flat else made)
    if len(node.outputs) > 3:
        scores = walk.fresh(node.outputs[3], 4)
        walk.pin(node, scores[2:], COMPARED)
        walk.give(node, (query[0], query[1], *scores[2:]), 3)


def _heads(node: ir.Node, walk: Walk, index: int) -> Axes | None:
    """[B, heads, T, D] of one of the three; None where it is cut otherwise."""
    axes = walk.axes(node, index)
    if len(axes) == 4:
        return axes
    name = "kv_num_heads" if index else "q_num_heads"
    count = node.attributes.get_int(name, 0)
    if len(axes) != 3 or not count or not walk.known(axes[2]) or walk.size(axes[2]) % count:
        return None
    return _split_heads(node, walk, axes, count, name)


def _split_heads(node: ir.Node, walk: Walk, axes: Axes, count: int, name: str) -> Axes:
    heads, inner = walk.atom(count), walk.atom(walk.size(axes[2]) // count)
    walk.unify(node, axes[2], walk.join([heads, inner]))
    if heads is not None:
        walk.follows(node, name, [heads])
    return (axes[0], heads, axes[1], inner)


def _attend(node: ir.Node, walk: Walk, query: Axes, key: Axes, value: Axes) -> Axes:
    """Relate the three; returns [B, H, T, E]."""
    walk.pin(node, (query[2], key[2], value[2]), COMPARED)
    for a, b in ((key[1], value[1]), (query[3], key[3]), (query[0], key[0]), (query[0], value[0])):
        walk.unify(node, a, b)
    heads, shared = walk.size(query[1]), walk.size(key[1])
    if not walk.known(query[1]) or not walk.known(key[1]) or heads % shared:
        walk.pin(node, (query[1], key[1]), "its heads do not share keys evenly")
    else:
        walk.unify(node, query[1], walk.join([key[1], walk.atom(heads // shared)]))
    flat = len(walk.axes(node, 0)) == 3
    walk.sums((node, 0, 2 if flat else 3))
    return (query[0], query[1], query[2], value[3])


def _mask(node: ir.Node, walk: Walk, mask: Axes, heads: Axis) -> None:
    """[.., heads or 1, T, S], aligned at the last."""
    walk.pin(node, (*mask[-2:], *mask[:-3]), COMPARED)
    if len(mask) > 2:
        broadcast(walk, node, [mask[-3:-2], (heads,)])


def _cache(node: ir.Node, walk: Walk, heads: tuple[Axes, Axes]) -> None:
    """Past and present keys and values, [B, KV, time, D]."""
    for k, axes in enumerate(heads):
        if input_at(node, 4 + k) is not None:
            past = walk.axes(node, 4 + k)
            walk.pin(node, past[2:3], COMPARED)
            for place in (0, 1, 3):
                walk.unify(node, axes[place], past[place])
        if len(node.outputs) > 1 + k:
            time = walk.fresh(node.outputs[1 + k], 4)[2]
            walk.pin(node, [time], COMPARED)
            walk.give(node, (axes[0], axes[1], time, axes[3]), 1 + k)


def _say_scale(node: ir.Node, walk: Walk, inner: Axis) -> None:
    walk.defaults_to(node, "scale", 1.0 / math.sqrt(max(walk.size(inner), 1)), inner)


def multi_head(node: ir.Node, walk: Walk) -> None:
    """com.microsoft.MultiHeadAttention of three inputs [B, T, heads x D], and a bias of all three."""
    count = node.attributes.get_int("num_heads", 0)
    plain = all(input_at(node, k) is None for k in (4, *range(6, len(node.inputs)))) and len(node.outputs) == 1
    three = [walk.axes(node, k) for k in range(3) if input_at(node, k) is not None]
    if not plain or len(three) < 3 or any(len(axes) != 3 or walk.size(axes[2]) % count for axes in three):
        return
    if not all(walk.known(axes[2]) for axes in three):
        return
    query, key, value = (_split_heads(node, walk, axes, count, "num_heads") for axes in three)
    made = _attend(node, walk, query, key, value)
    if input_at(node, 3) is not None:
        walk.unify(node, walk.axes(node, 3)[0], walk.stack(axes[2] for axes in three))
        walk.sums((node, 3, 0))  # it is added inside, before queries and keys meet
    if input_at(node, 5) is not None:
        _mask(node, walk, walk.axes(node, 5), query[1])
    _say_scale(node, walk, query[3])
    walk.give(node, (made[0], made[2], walk.join([made[1], made[3]])))


def rotary(node: ir.Node, walk: Walk) -> None:
    """RotaryEmbedding of opset 23: D = 2 x h, h rotated with numbers [.., h] of their own; pairs or halves."""
    axes, count = walk.axes(node, 0), node.attributes.get_int("num_heads", 0)
    inner = axes[-1]
    if len(axes) == 3 and (not count or not walk.known(inner) or walk.size(inner) % count):
        return
    if len(axes) == 3:
        inner = _split_heads(node, walk, axes, count, "num_heads")[3]
    if node.attributes.get_int("rotary_embedding_dim", 0) or not walk.known(inner) or walk.size(inner) % 2:
        return
    half = walk.atom(walk.size(inner) // 2)
    two = walk.atom(2)
    walk.pin(node, [two], "it counts what is rotated together")
    walk.unify(node, inner, walk.join([half, two] if node.attributes.get_int("interleaved", 0) else [two, half]))
    for index in (1, 2):
        cache = walk.axes(node, index)
        walk.pin(node, cache[:-1], COMPARED)
        walk.unify(node, cache[-1], half)
    walk.give(node, axes)
