from __future__ import annotations

import numpy as np
import pytest

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_keeps_promises, assert_unchanged, parse
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.edit import add_initializer
from lwc.passes.fuse.fold_pad import FoldPad

WEIGHT = "float[1, 1, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}"
GRAPH = "g (float[1, 1, 6, 6] x) => (float[d, e, f, h] y) <WEIGHT, int64[8] p = {{{0}}}{1}> {{ {2}\n {3} }}"
PADS = "0, 0, 1, 0, 0, 0, 2, 1"
PAD = "t = Pad(x, p)"


def graph(pads: str, constants: str, pad: str, user: str) -> str:
    return GRAPH.format(pads, constants, pad, user).replace("WEIGHT", WEIGHT)


def folded(text: str) -> list[str]:
    before = parse(text)
    after = before.clone()
    assert_keeps_promises(after, FoldPad(), CONTEXT)
    RemoveUnused().run(after, CONTEXT)
    assert_equivalent(before, after)
    return [node.op_type for node in after.graph]


@pytest.mark.parametrize(
    "user",
    ["y = Conv(t, w)", "y = Conv<pads=[1, 1, 0, 0], strides=[2, 1]>(t, w)", "y = AveragePool<kernel_shape=[3, 3]>(t)"],
)
def test_zeros_go_into_a_convolution_or_average(user: str) -> None:
    assert folded(graph(PADS, "", PAD, user)) == [user[4:].partition("(")[0].partition("<")[0]]


def test_minus_infinity_goes_into_a_maximum() -> None:
    model = parse(graph(PADS, ", float v = {0}", "t = Pad(x, p, v)", "y = MaxPool<kernel_shape=[3, 3]>(t)"))
    assert not FoldPad().run(model, CONTEXT).changed
    lowest = add_initializer(model.graph, "lowest", np.array(-np.inf, np.float32))
    next(iter(model.graph)).replace_input_with(2, lowest)
    before = model.clone()
    assert FoldPad().run(model, CONTEXT).changed
    assert [node.op_type for node in model.graph] == ["MaxPool"]
    assert_equivalent(before, model)


@pytest.mark.parametrize(
    ("pads", "constants", "pad", "user"),
    [
        ("0, 1, 1, 1, 0, 1, 1, 1", ", float[1, 3, 1, 1] k = {1, 2, 3}", PAD, "y = Conv(t, k)"),
        ("0, 0, -1, 0, 0, 0, 0, 0", "", PAD, "y = Conv(t, w)"),
        (PADS, ", float v = {1}", "t = Pad(x, p, v)", "y = Conv(t, w)"),
        (PADS, "", "t = Pad<mode=\"reflect\">(x, p)", "y = Conv(t, w)"),
        (PADS, "", PAD, "y = Conv<auto_pad=\"SAME_UPPER\">(t, w)"),
        (PADS, "", PAD, "y = AveragePool<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(t)"),
        (PADS, "", PAD, "y = AveragePool<kernel_shape=[3, 3], ceil_mode=1>(t)"),
        (PADS, "", PAD, "y = AveragePool<kernel_shape=[2, 2]>(t)"),
        (PADS, "", PAD, "s = Conv(t, w)\n r = GlobalMaxPool(t)\n y = Add(s, r)"),
    ],
)  # fmt: skip
def test_other_padding_stays(pads: str, constants: str, pad: str, user: str) -> None:
    text = graph(pads, constants, pad, user)
    assert_unchanged(text, FoldPad())


def test_reads_the_attributes_of_old_opsets() -> None:
    text = (
        '<ir_version: 4, opset_import: ["" : 10]>\n g (float[1, 1, 6, 6] x) => (float[d, e, f, h] y) <' + WEIGHT + "> {"
        "t = Pad<pads=[0, 0, 1, 1, 0, 0, 1, 1]>(x)\n y = Conv(t, w) }"
    )
    assert folded(text) == ["Conv"]


def test_axes_of_new_opsets_are_understood() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 18]>\n g (float[1, 1, 6, 6] x) => (float[d, e, f, h] y) <' + WEIGHT
        + ", int64[2] p = {1, 2}, int64[1] a = {-1}> { t = Pad(x, p, , a)\n y = Conv(t, w) }"
    )  # fmt: skip
    assert folded(text) == ["Conv"]
