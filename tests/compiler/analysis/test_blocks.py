"""Which parts of a graph are residual blocks."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from lwc.compiler.analysis.blocks import Block, find_blocks
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Site
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import parse
from lwc.models import digits, tiny
from lwc.passes import clean

TARGET = NAMED["cpu:x86-64-v4"]


def named(model: ir.Model) -> ir.Model:
    infer_shapes(model)
    for node in model.graph:
        node.name = node.outputs[0].name
    return model


def blocks_of(text: str) -> tuple[Block, ...]:
    return find_blocks(named(parse(text)))


def test_a_block_holds_what_only_it_needs() -> None:
    (block,) = find_blocks(named(tiny.all_graphs()["residual_block"]()))
    assert block == Block(Site("s", "Add", "block"), 1, ("a", "r", "c", "s"))


def test_the_entry_may_be_either_input() -> None:
    (block,) = find_blocks(named(tiny.all_graphs()["inverted_residual"]()))
    assert (block.entry, block.site.name) == (0, "y")
    assert set(block.nodes) == {"lo", "hi", "a", "ac", "d", "dc", "p", "y"}


def test_blocks_may_follow_and_hold_each_other() -> None:
    blocks = blocks_of("""agraph (float[4,8] x) => (float[4,8] y) <float[8,8] w = {...}> {
        a = MatMul(x, w) b = Add(a, x) c = MatMul(b, w) d = Add(b, c) y = Add(x, d) }""".replace("{...}", _numbers(64)))
    assert [(block.site.name, block.nodes) for block in blocks] == [
        ("b", ("a", "b")),
        ("d", ("c", "d")),
        ("y", ("a", "b", "c", "d", "y")),
    ]


def test_what_others_read_stays() -> None:
    (block,) = blocks_of("""agraph (float[4,8] x) => (float[4,8] y, float[4,8] z) <float[8,8] w = {...}> {
        a = MatMul(x, w) b = Relu(a) y = Add(x, b) z = Neg(a) }""".replace("{...}", _numbers(64)))
    assert block.nodes == ("b", "y")


def test_other_values_may_enter() -> None:
    (block,) = blocks_of("""agraph (float[4,8] x, float[4,8] m) => (float[4,8] y) <float[8,8] w = {...}> {
        g = Sigmoid(m) a = MatMul(x, w) b = Mul(a, g) y = Add(b, x) }""".replace("{...}", _numbers(64)))
    assert set(block.nodes) == {"g", "a", "b", "y"}


def test_sizes_of_run_time_are_equal_where_nothing_else_enters() -> None:
    (block,) = blocks_of("""agraph (float[?,8] x) => (float[?,8] y) <float[8,8] w = {...}> {
        a = MatMul(x, w) y = Add(x, a) }""".replace("{...}", _numbers(64)))
    assert block.nodes == ("a", "y")


@pytest.mark.parametrize(
    "text",
    [
        # a sum of two branches
        "agraph (float[4,8] x) => (float[4,8] y) <float[8,8] w = {...}> { a = MatMul(x, w) b = Relu(x) y = Add(a, b) }",
        # no weights: the cube of a GELU
        "agraph (float[4,8] x) => (float[4,8] y) { a = Mul(x, x) b = Mul(a, x) y = Add(x, b) }",
        # another shape, which broadcasts
        """agraph (float[1,8] x, float[4,8] z) => (float[4,8] y) <float[8,8] w = {...}> {
            p = Add(x, z) a = MatMul(p, w) y = Add(x, a) }""",
        # sizes that nobody says are equal
        """agraph (float[?,8] x, float[?,8] m) => (float[?,8] y) <float[8,8] w = {...}> {
            a = MatMul(x, w) b = Mul(a, m) y = Add(x, b) }""",
        # a bias
        """agraph (float[4,8] x) => (float[4,8] y) <float[8,8] w = {...}, float[4,8] b = {..}> {
            a = MatMul(x, w) y = Add(a, b) }""",
        # twice the same
        "agraph (float[4,8] x) => (float[4,8] y) <float[8,8] w = {...}> { a = MatMul(x, w) y = Add(a, a) }",
        # of another kind of number
        """agraph (float[4,8] x) => (float[4,8] y) <float[8,8] w = {...}> { a = MatMul(x, w) y = Sub(x, a) }""",
    ],
)
def test_other_sums_are_no_blocks(text: str) -> None:
    assert blocks_of(text.replace("{...}", _numbers(64)).replace("{..}", _numbers(32))) == ()


@pytest.mark.parametrize(("kind", "count"), [("cnn", 4), ("transformer", 4), ("gru", 0)])
def test_blocks_of_the_trained_models(kind: digits.Kind, count: int) -> None:
    model = ir.load(Path(digits.path(kind)))
    clean(TARGET).run(model, PassContext(TARGET))
    blocks = find_blocks(model)
    assert len(blocks) == count
    inside = [name for block in blocks for name in block.nodes]
    assert len(inside) == len(set(inside))


def _numbers(count: int) -> str:
    return "{" + ", ".join(str(k % 7 - 3) for k in range(count)) + "}"
