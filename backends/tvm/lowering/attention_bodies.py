"""ONNX Runtime's attention operators as ONNX's own Attention (opset 23), which has a body of simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lwc.backends.tvm.lowering.body_text import Call, function

MASKED = -10000.0  # what ONNX Runtime adds to scores that a mask hides


def multi_head(call: Call) -> str:
    """MultiHeadAttention of query, key and value of [batch, length, hidden] each."""
    if not (call.has(1) and call.has(2)) or {call.rank(k) for k in range(3)} != {3}:
        raise NotImplementedError("its query, key and value are packed, or divided into heads already.")
    if call.has(8) or call.has(9) or call.wants(3):
        raise NotImplementedError("its cache is larger than what is in it, or its scores are read.")
    names, steps = ["query", "key", "value"], []
    if call.has(3):
        sizes = ", ".join(str(call.dims(k)[-1]) for k in range(3))
        steps = [
            f"sizes = Constant <value_ints = [{sizes}]> ()",
            "bias_query, bias_key, bias_value = Split <axis = 0> (bias, sizes)",
            *(f"{name}_b = Add ({name}, bias_{name})" for name in names),
        ]
        names = [f"{name}_b" for name in names]
    hidden = _hidden_scores(call, 4) if call.has(4) else []
    mask = _sum_of([*(["attention_bias"] if call.has(5) else []), *(["hidden"] if hidden else [])])
    heads = call.integer("num_heads", 1)
    steps += [*hidden, *mask[1], _attention(call, names, mask[0], call.has(6), heads, heads)]
    return function(
        "query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value",
        "y, present_key, present_value", "\n".join(steps),
    )  # fmt: skip


def packed(call: Call) -> str:
    """Attention of com.microsoft: query, key and value by one product with `weights`."""
    if call.has(4) or call.has(6) or call.flag("do_rotary") or call.wants(1):
        raise NotImplementedError("it has a cache or rotates.")
    third = call.dims(1)[1] // 3
    sizes = [int(size) for size in call.numbers("qkv_hidden_sizes")] or [third] * 3
    hidden = _hidden_scores(call, 3) if call.has(3) else []
    mask = _sum_of([*(["attention_bias"] if call.has(5) else []), *(["hidden"] if hidden else [])])
    heads = call.integer("num_heads", 1)
    steps = [
        "product = MatMul (input, weights)",
        "all = Add (product, bias)" if call.has(2) else "all = Identity (product)",
        f"sizes = Constant <value_ints = {sizes}> ()",
        "query, key, value = Split <axis = -1> (all, sizes)",
        *hidden, *mask[1],
        _attention(call, ["query", "key", "value"], mask[0], False, heads, heads),
    ]  # fmt: skip
    return function("input, weights, bias, key_padding_mask, past, attention_bias", "y", "\n".join(steps))


def grouped(call: Call) -> str:
    """GroupQueryAttention whose cache, if any, is full: total_sequence_length is that of cache and new keys."""
    if not (call.has(1) and call.has(2)):
        raise NotImplementedError("its query, key and value are packed in one.")
    if call.integer("local_window_size", -1) != -1 or call.flag("smooth_softmax") or call.has(11):
        raise NotImplementedError("it attends to a window, or its softmax is smoothed.")
    past = call.dims(3)[2] if call.has(3) else 0
    if past != 0:
        raise NotImplementedError("how much of its cache is filled is known only when it runs.")
    length = call.dims(0)[1]
    heads, shared = call.integer("num_heads", 1), call.integer("kv_num_heads", 1)
    names, steps = ["query", "key", "value"], []
    if call.flag("do_rotary"):
        inner = f"interleaved = {call.integer('rotary_interleaved', 0)}"
        positions = _positions(call, length)
        steps = [
            *positions,
            f"query_r = RotaryEmbedding <{inner}, num_heads = {heads}> (query, cos_cache, sin_cache, positions)",
            f"key_r = RotaryEmbedding <{inner}, num_heads = {shared}> (key, cos_cache, sin_cache, positions)",
        ]
        names = ["query_r", "key_r", "value"]
    mask = "attention_bias" if call.has(10) else ""
    steps.append(_attention(call, names, mask, False, heads, shared, causal=True))
    return function(
        "query, key, value, past_key, past_value, seqlens_k, total, cos_cache, sin_cache, position_ids, attention_bias",
        "y, present_key, present_value", "\n".join(steps),
    )  # fmt: skip


def _positions(call: Call, length: int) -> list[str]:
    if call.has(9):
        return ["positions = Identity (position_ids)"]
    batch = call.dims(0)[0]
    return [
        f"start = Constant <value_int = 0> ()\n end = Constant <value_int = {length}> ()",
        "step = Constant <value_int = 1> ()\n row = Range (start, end, step)",
        f"shape = Constant <value_ints = [{batch}, {length}]> ()\n positions = Expand (row, shape)",
    ]


def rotary(call: Call) -> str:
    """RotaryEmbedding of com.microsoft; position_ids [1] is the first position."""
    if call.number("scale", 1.0) != 1.0 or call.flag("is_packed_batching"):
        raise NotImplementedError("it scales, or packs sequences of different lengths.")
    batch, *middle, _ = call.dims(0)
    length = middle[-1]
    steps = ["positions = Identity (position_ids)"]
    if call.rank(1) == 1:
        steps = [
            f"zero = Constant <value_int = 0> ()\n end = Constant <value_int = {length}> ()",
            "one = Constant <value_int = 1> ()\n row = Range (zero, end, one)\n moved = Add (row, position_ids)",
            f"shape = Constant <value_ints = [{batch}, {length}]> ()\n positions = Expand (moved, shape)",
        ]
    heads = f", num_heads = {_heads(call)}" if call.rank(0) == 3 else ""
    inner = f"interleaved = @interleaved, rotary_embedding_dim = @rotary_embedding_dim{heads}"
    steps.append(f"y = RotaryEmbedding <{inner}> (x, cos, sin, positions)")
    return function("x, position_ids, cos, sin", "y", "\n".join(steps))


def _heads(call: Call) -> int:
    given = call.integer("num_heads", 0)
    size = call.integer("rotary_embedding_dim", 0) or 2 * call.dims(2)[-1]
    found: int = given or call.dims(0)[-1] // size
    return found


def _hidden_scores(call: Call, index: int) -> list[str]:
    """[batch, keys] of 1 and 0, or [batch] of lengths -> what is added to scores of hidden keys."""
    if call.rank(index) == 1:
        raise NotImplementedError("its mask gives lengths.")
    if call.rank(index) != 2:
        raise NotImplementedError("its mask has other dimensions than [batch, keys].")
    number = call.number("mask_filter_value", MASKED)
    return [
        "axes = Constant <value_ints = [1, 2]> ()\n wide = Unsqueeze (key_padding_mask, axes)",
        "kept = Cast <to = 9> (wide)",
        f"low = Constant <value_float = {number}> ()\n nothing = Constant <value_float = 0.0> ()",
        "scores = Where (kept, nothing, low)",
        f"low_like = CastLike (scores, {'query' if index == 4 else 'input'})\n hidden = Identity (low_like)",
    ]


def _sum_of(names: Sequence[str]) -> tuple[str, list[str]]:
    if len(names) < 2:
        return (names[0] if names else "", [])
    return "mask", [f"mask = Add ({', '.join(names)})"]


def _attention(
    call: Call, names: Sequence[str], mask: str, cached: bool, heads: int, shared: int, *, causal: bool = False
) -> str:
    scale = call.number("scale", 0.0)
    given = [f"q_num_heads = {heads}, kv_num_heads = {shared}"]
    given += [f"scale = {scale}"] if scale else []
    given += ["is_causal = 1"] if causal or call.flag("unidirectional") else []
    softcap = call.number("softcap", 0.0)
    given += [f"softcap = {softcap}"] if softcap else []
    cache = "past_key, past_value" if cached else '"", ""'
    inputs = f'{", ".join(names)}, {mask or chr(34) * 2}, {cache}'
    if not cached and not mask:
        inputs = ", ".join(names)
    elif not cached:
        inputs = f'{", ".join(names)}, {mask}'
    wanted = "y, present_key, present_value" if call.wants(1) else "y"
    return f"{wanted} = Attention <{', '.join(given)}> ({inputs})"


BODIES: Mapping[str, Callable[[Call], str]] = {
    "Attention": packed,
    "GroupQueryAttention": grouped,
    "MultiHeadAttention": multi_head,
    "RotaryEmbedding": rotary,
}
