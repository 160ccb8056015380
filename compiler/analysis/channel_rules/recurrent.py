"""LSTM, GRU, RNN: hidden units leave with their gates; directions and gates stay."""

from __future__ import annotations

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.walk import Axis, Walk, input_at

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(node: ir.Node, walk: Walk) -> None:
    """W [directions, gates x H, in], R [directions, gates x H, H], B [directions, 2 x gates x H], P [directions, 3 x H]

    Y [time, directions, batch, H], states [directions, batch, H]; in `layout` 1 the batch is first.
    """
    x, weight, inner = (walk.axes(node, k) for k in range(3))
    gates, hidden = GATES[node.op_type], inner[2]
    directions = weight[0]
    walk.pin(node, [directions, *x[:2]], "it counts directions, or time")
    walk.unify(node, inner[0], directions)
    walk.unify(node, x[2], weight[2])
    for axis in (weight[1], inner[1]):
        walk.unify(node, axis, _gated(node, walk, gates, hidden))
    walk.sums((node, 1, 2))
    walk.sums((node, 2, 2))
    walk.makes(node, 1, 1)
    walk.makes(node, 2, 1)
    walk.follows(node, "hidden_size", [hidden])
    _join_states(node, walk, gates, hidden, directions)


def _gated(node: ir.Node, walk: Walk, count: int, hidden: Axis) -> Axis:
    gates = walk.atom(count)
    walk.pin(node, [gates], "it counts gates")
    return walk.join([gates, hidden])


def _join_states(node: ir.Node, walk: Walk, gates: int, hidden: Axis, directions: Axis) -> None:
    x, batch_first = walk.axes(node, 0), node.attributes.get_int("layout", 0) == 1
    batch, time = (x[0], x[1]) if batch_first else (x[1], x[0])
    state = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    for index, extra in ((3, 2 * gates), (7, 3)):
        if input_at(node, index) is not None:
            vector = walk.axes(node, index)
            walk.unify(node, vector[0], directions)
            walk.unify(node, vector[1], _gated(node, walk, extra, hidden))
    for index in (5, 6):
        if input_at(node, index) is not None:
            for axis, own in zip(walk.axes(node, index), state, strict=True):
                walk.unify(node, axis, own)
    every = (batch, time, directions, hidden) if batch_first else (time, directions, batch, hidden)
    for output in range(len(node.outputs)):
        walk.give(node, every if output == 0 else state, output)
