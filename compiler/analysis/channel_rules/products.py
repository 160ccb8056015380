"""Operators that multiply by weights and sum: sums leave with what is read, outputs with what they make."""

from __future__ import annotations

import onnx_ir as ir

from lwc.compiler.analysis.channel_rules.elementwise import broadcast
from lwc.compiler.analysis.channel_rules.walk import Axes, Axis, Walk, input_at

SPATIAL = "it is spatial"


def convolution(node: ir.Node, walk: Walk) -> None:
    """x [N, C, ...], W [out, C / groups, ...]: C = G x i and out = G x o. The groups are channels of their own."""
    x, weight = walk.axes(node, 0), walk.axes(node, 1)
    groups = node.attributes.get_int("group", 1)
    if groups == 1:
        walk.unify(node, x[1], weight[1])
        walk.sums((node, 1, 1), (node, 0, 1))
    else:
        _grouped(node, walk, x[1], weight[1], weight[0], groups)
        if weight[1] is not None:
            walk.sums((node, 1, 1))
    walk.makes(node, 1, 0)
    _give_image(node, walk, x, weight[0])


def transposed_convolution(node: ir.Node, walk: Walk) -> None:
    """x [N, C, ...], W [C, out / groups, ...]."""
    x, weight = walk.axes(node, 0), walk.axes(node, 1)
    groups = node.attributes.get_int("group", 1)
    if groups == 1:
        walk.unify(node, x[1], weight[0])
        walk.sums((node, 1, 0), (node, 0, 1))
        walk.makes(node, 1, 1)
        _give_image(node, walk, x, weight[1])
        return
    group = walk.terms.atom(groups)
    inner = walk.atom(walk.size(weight[0]) // groups)
    walk.unify(node, weight[0], walk.join([group, inner]))
    walk.unify(node, x[1], weight[0])
    walk.follows(node, "group", [group])
    if inner is not None:
        walk.sums((node, 1, 0))
    walk.makes(node, 1, 1)
    _give_image(node, walk, x, walk.join([group, weight[1]]))


def _grouped(node: ir.Node, walk: Walk, x: Axis, inner: Axis, made: Axis, groups: int) -> None:
    group = walk.terms.atom(groups)
    walk.unify(node, x, walk.join([group, inner]))
    walk.unify(node, made, walk.join([group, walk.atom(walk.size(made) // groups)]))
    walk.follows(node, "group", [group])


def _give_image(node: ir.Node, walk: Walk, x: Axes, made: Axis) -> None:
    """The output [N, made, ...]; a bias goes with it."""
    if input_at(node, 2) is not None:
        walk.unify(node, walk.axes(node, 2)[0], made)
    spatial = walk.fresh(node.outputs[0], len(x))[2:]
    walk.pin(node, (*x[2:], *walk.axes(node, 1)[2:], *spatial), SPATIAL)
    walk.give(node, (x[0], made, *spatial))


def gemm(node: ir.Node, walk: Walk) -> None:
    """y = A' B' + C, A' [n, in], B' [in, out]."""
    rows, columns = (node.attributes.get_int(name, 0) for name in ("transA", "transB"))
    a, b = walk.axes(node, 0), walk.axes(node, 1)
    walk.unify(node, a[1 - rows], b[columns])
    walk.sums((node, 1, columns), (node, 0, 1 - rows))
    walk.makes(node, 0, rows)
    walk.makes(node, 1, 1 - columns)
    made: Axes = (a[rows], b[1 - columns])
    if input_at(node, 2) is not None:
        made = broadcast(walk, node, [made, walk.axes(node, 2)])
    walk.give(node, made)


def matmul(node: ir.Node, walk: Walk) -> None:
    """[..., n, in] x [..., in, out]; either may be a vector."""
    a, b = walk.axes(node, 0), walk.axes(node, 1)
    left, right = len(a) - 1, max(0, len(b) - 2)
    walk.unify(node, a[left], b[right])
    walk.sums((node, 1, right), (node, 0, left))
    made: Axes = ()
    if len(a) > 1:
        walk.makes(node, 0, left - 1)
        made += (a[left - 1],)
    if len(b) > 1:
        walk.makes(node, 1, len(b) - 1)
        made += (b[-1],)
    walk.give(node, (*broadcast(walk, node, [a[:-2], b[:-2]]), *made))


def einsum(node: ir.Node, walk: Walk) -> None:
    """One term per letter; letters that the output lacks are summed over."""
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    read, _, made = equation.partition("->")
    names = read.split(",")
    inputs = [walk.axes(node, index) for index in range(len(node.inputs))]
    if "." in equation or "->" not in equation or [len(name) for name in names] != [len(axes) for axes in inputs]:
        walk.pin(node, (axis for axes in inputs for axis in axes), "its equation is not understood")
        return
    places: dict[str, list[tuple[ir.Node, int, int]]] = {}
    letters: dict[str, Axis] = {}
    for index, (name, axes) in enumerate(zip(names, inputs, strict=True)):
        for k, letter in enumerate(name):
            places.setdefault(letter, []).insert(0, (node, index, k))
            walk.unify(node, letters.setdefault(letter, axes[k]), axes[k])
            if letter in made:
                walk.makes(node, index, k)
    for letter in places:
        if letter not in made:
            walk.sums(*places[letter])
    walk.give(node, [letters[letter] for letter in made])
