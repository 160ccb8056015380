"""Operators that lay the same values out in other axes: joined, split, moved, added, repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.vectors import known_integers
from lwc.compiler.analysis.channel_rules.walk import Axes, Axis, Walk, from_front, input_at, integers

UNALIGNED = "its axes are cut across, or together with a size that is not static"

# One axis: how many channels; a symbol; or None where nothing is known.
Key = int | str | None


def transpose(node: ir.Node, walk: Walk) -> None:
    axes = walk.axes(node, 0)
    order = integers(node, "perm") or list(reversed(range(len(axes))))
    walk.give(node, [axes[k] for k in order])


def squeeze(node: ir.Node, walk: Walk) -> None:
    axes, gone = walk.axes(node, 0), integers(node, "axes", 1)
    if gone is None:
        return
    places = {from_front(k, len(axes)) for k in gone} or {k for k, axis in enumerate(axes) if axis is None}
    walk.give(node, [axis for k, axis in enumerate(axes) if k not in places])


def unsqueeze(node: ir.Node, walk: Walk) -> None:
    axes, new = walk.axes(node, 0), integers(node, "axes", 1)
    if new is None:
        return
    rank = len(axes) + len(new)
    places, rest = {from_front(k, rank) for k in new}, iter(axes)
    walk.give(node, [None if k in places else next(rest) for k in range(rank)])


def reshape(node: ir.Node, walk: Walk) -> None:
    """Axes pair in blocks of as many values; within a block they are one product. The shape that is read follows."""
    made = _reshaped(node, walk)
    for k, axis in enumerate(made):
        if axis is not None:
            walk.follows(node, 1, [axis], k, len(made))


def flatten(node: ir.Node, walk: Walk) -> None:
    """Into two axes, by a rule that needs no shape."""
    _reshaped(node, walk)


def _reshaped(node: ir.Node, walk: Walk) -> Axes:
    value, axes = node.inputs[0], walk.axes(node, 0)
    target = _target(node, walk)
    if value is None or target is None:
        return ()
    made = [axis for axis, _ in target]
    old = [(axis, _key(walk, axis, value, k)) for k, axis in enumerate(axes) if axis is not None]
    new = [(k, key) for k, (axis, key) in enumerate(target) if axis is not None]
    taken, given = set(range(len(old))), set(range(len(new)))
    for i0, i1, j0, j1 in blocks([key for _, key in old], [key for _, key in new]):
        taken -= set(range(i0, i1))
        given -= set(range(j0, j1))
        joined = walk.join(axis for axis, _ in old[i0:i1]) if isinstance(old[i0][1], int) else walk.unknown
        if j1 - j0 == 1:
            made[new[j0][0]] = joined
        else:
            walk.unify(node, joined, walk.join(made[k] for k, _ in new[j0:j1]))
    _pair_ends(node, walk, [old[k][0] for k in sorted(taken)], [made[new[k][0]] for k in sorted(given)])
    walk.give(node, made)
    return tuple(made)


def _target(node: ir.Node, walk: Walk) -> list[tuple[Axis, Key]] | None:
    """The axes that a reshape makes, from its output's shape or else from the integers it reads."""
    value, output = node.inputs[0], node.outputs[0]
    if output.shape is not None:
        return [(axis, _key(walk, axis, output, k)) for k, axis in enumerate(walk.fresh(output))]
    sizes = known_integers(input_at(node, 1))
    if sizes is None or value is None or node.attributes.get_int("allowzero", 0) == 1:
        return None
    old = walk.axes(node, 0)
    keys = [_key(walk, old[k], value, k) if size == 0 and k < len(old) else size for k, size in enumerate(sizes)]
    keys = [None if key == -1 else key for key in keys]
    return [(walk.atom(key) if isinstance(key, int) else walk.unknown, key) for key in keys]


def _pair_ends(node: ir.Node, walk: Walk, old: list[Axis], new: list[Axis]) -> None:
    """Of axes that only together hold as many values, the outermost or innermost of one may be a factor of another."""
    for end in (0, -1):
        if old and new and walk.known(old[end]) and walk.known(new[end]):
            small, large = sorted((old[end], new[end]), key=walk.size)
            if walk.size(large) % walk.size(small) == 0:
                rest = walk.atom(walk.size(large) // walk.size(small))
                walk.unify(node, large, walk.join([rest, small] if end else [small, rest]))
                walk.pin(node, [rest], UNALIGNED)
                del old[end], new[end]
    walk.pin(node, (*old, *new), UNALIGNED)


def _key(walk: Walk, axis: Axis, value: ir.Value, place: int) -> Key:
    if walk.known(axis):
        return walk.size(axis)
    dim = None if value.shape is None else value.shape[place]
    return dim.value if isinstance(dim, ir.SymbolicDim) else None


def blocks(old: Sequence[Key], new: Sequence[Key]) -> list[tuple[int, int, int, int]]:
    """Ranges [i0, i1) of old and [j0, j1) of new axes that hold the same values, the smallest, from both ends."""
    found = list(_from_left(old, new))
    i, j = found[-1][1::2] if found else (0, 0)
    ends = _from_left(old[i:][::-1], new[j:][::-1])
    m, n = len(old), len(new)
    return found + [(m - i1, m - i0, n - j1, n - j0) for i0, i1, j0, j1 in ends]


def _from_left(old: Sequence[Key], new: Sequence[Key]) -> Iterator[tuple[int, int, int, int]]:
    i = j = 0
    while i < len(old) and j < len(new):
        i0, j0, a, b = i, j, old[i], new[j]
        i, j = i + 1, j + 1
        if a is None or b is None or (a != b and not (isinstance(a, int) and isinstance(b, int))):
            return
        while isinstance(a, int) and isinstance(b, int) and a != b:
            more = (old[i] if i < len(old) else None) if a < b else (new[j] if j < len(new) else None)
            if not isinstance(more, int):
                return
            if a < b:
                a, i = a * more, i + 1
            else:
                b, j = b * more, j + 1
        yield i0, i, j0, j


def expand(node: ir.Node, walk: Walk) -> None:
    """Axes of size 1 are repeated: copies of one thing leave as they like, with what else they meet."""
    axes, shape, output = walk.axes(node, 0), input_at(node, 1), node.outputs[0]
    if output.shape is None or shape is None or shape.shape is None or not isinstance(shape.shape[0], int):
        return
    made = list(walk.fresh(output))
    for k, axis in enumerate(reversed(axes), 1):
        made[-k] = axis if axis is not None else made[-k]
    length = shape.shape[0]
    for k in range(1, length + 1):
        if made[-k] is not None:
            walk.follows(node, 1, [made[-k]], length - k, length)
    walk.give(node, made)


def tile(node: ir.Node, walk: Walk) -> None:
    """An axis repeated r times is r x the axis, and r stays; of one channel it is copies, as in Expand."""
    axes, repeats = walk.axes(node, 0), integers(node, "", 1)
    if repeats is None:
        _tiled_at_run_time(node, walk)
        return
    made: list[Axis] = []
    for k, (axis, count) in enumerate(zip(axes, repeats, strict=True)):
        copies = walk.atom(count)
        if axis is None and copies is not None:
            walk.follows(node, 1, [copies], k, len(axes))
        else:
            walk.pin(node, [copies], "it counts copies")
        made.append(walk.join([copies, axis]) if walk.known(axis) else axis)
    walk.give(node, made)


def _tiled_at_run_time(node: ir.Node, walk: Walk) -> None:
    """Axes that come out as large as they were are not repeated."""
    axes = walk.axes(node, 0)
    own = walk.fresh(node.outputs[0], len(axes))
    pairs = list(zip(axes, own, strict=True))
    made = [old if walk.known(new) and walk.size(old) == walk.size(new) else new for old, new in pairs]
    repeated = [k for k, axis in enumerate(axes) if axis != made[k]]
    walk.pin(node, (axis for k in repeated for axis in (axes[k], made[k])), "it counts copies")
    walk.give(node, made)


def depth_to_space(node: ir.Node, walk: Walk) -> None:
    """[N, C, H, W]: C = b x b x c, or c x b x b in mode CRD."""
    axes, block = walk.axes(node, 0), node.attributes.get_int("blocksize")
    tiles = [walk.atom(block), walk.atom(block)]
    inner = walk.atom(walk.size(axes[1]) // block**2)
    column_first = node.attributes.get_string("mode", "DCR") == "CRD"
    walk.unify(node, axes[1], walk.join([inner, *tiles] if column_first else [*tiles, inner]))
    _give_moved(node, walk, axes, tiles, inner)


def space_to_depth(node: ir.Node, walk: Walk) -> None:
    """[N, C, H, W] to b x b x C channels."""
    axes, block = walk.axes(node, 0), node.attributes.get_int("blocksize")
    tiles = [walk.atom(block), walk.atom(block)]
    _give_moved(node, walk, axes, tiles, walk.join([*tiles, axes[1]]))


def _give_moved(node: ir.Node, walk: Walk, axes: Axes, tiles: list[Axis], channels: Axis) -> None:
    spatial = walk.fresh(node.outputs[0], len(axes))[2:]
    walk.pin(node, (*tiles, *axes[2:], *spatial), "it is spatial")
    walk.give(node, (axes[0], channels, *spatial))


def shape(node: ir.Node, walk: Walk) -> None:
    """It says the sizes of the original, so that arithmetic with them stays; where they are used, they follow."""
    walk.give(node, walk.fresh(node.outputs[0], 1))
    walk.pin(node, walk.of(node.outputs[0]), "it counts axes")
    if node.outputs[0].is_graph_output():
        walk.pin(node, walk.axes(node, 0), "the caller reads its size")


def constant_of_shape(node: ir.Node, walk: Walk) -> None:
    """One number everywhere: any channel leaves."""
    made = walk.fresh(node.outputs[0])
    for k, axis in enumerate(made):
        if axis is not None:
            walk.follows(node, 0, [axis], k, len(made))
    if node.outputs[0].shape is not None:
        walk.give(node, made)
