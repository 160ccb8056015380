"""Blocks that are left out: y = x + f(x) becomes y = x."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.blocks import find_blocks
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.digest import digest
from lwc.compiler.core.pass_ import Outcome, PassContext
from lwc.compiler.core.plan import Dropped, Plan, Site
from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_keeps_promises, assert_valid
from lwc.models import digits
from lwc.models.tiny.text import graph
from lwc.passes import clean
from lwc.passes.sparsity.drop_blocks import DropBlocks

CHAIN = graph("""(float[N,8] x) => (float[N,8] y) <float[8,8] u, float[8,8] v, float[8,8] w> {
    s = MatMul(x, u) a = Relu(s) b = MatMul(a, v) c = Add(a, b) d = MatMul(c, w) y = Add(d, c) }""")


def named(model: ir.Model) -> ir.Model:
    for node in model.graph:
        node.name = node.outputs[0].name
    infer_shapes(model)
    return model


def plan(*names: str) -> PassContext:
    return PassContext(CONTEXT.target, Plan({Site(name, "Add", "block"): Dropped() for name in names}))


@pytest.mark.parametrize(
    ("names", "left"), [(("c",), ["s", "a", "d", "y"]), (("y",), ["s", "a", "b", "y"]), (("c", "y"), ["s", "y"])]
)
def test_the_entry_is_read_in_place_of_the_result(names: tuple[str, ...], left: list[str]) -> None:
    model = named(CHAIN())
    zeroed = model.clone()
    for name in names:  # the last product of each block
        zeroed.graph.initializers["v" if name == "c" else "w"].const_value = ir.tensor(np.zeros((8, 8), np.float32))
    outcome = assert_keeps_promises(model, DropBlocks(), plan(*names))
    assert outcome == Outcome(tuple(Site(name, "Add", "block") for name in names))
    assert_equivalent(zeroed, model)
    assert [node.outputs[0].name for node in model.graph] == left
    assert set(model.graph.initializers) == {"u", "v", "w"} - {"v" if name == "c" else "w" for name in names}


def test_a_model_that_is_one_block_cannot_lose_it() -> None:
    model = named(graph("(float[N,8] x) => (float[N,8] y) <float[8,8] w> { a = MatMul(x, w) y = Add(x, a) }")())
    before = digest(model)
    outcome = DropBlocks().run(model, plan("y"))
    assert not outcome.changed
    assert "an output of the model" in outcome.skipped[0].reason
    assert digest(model) == before


@pytest.mark.parametrize("name", ["s", "nowhere"])
def test_where_no_block_ends_nothing_is_dropped(name: str) -> None:
    model = named(CHAIN())
    before = digest(model)
    outcome = DropBlocks().run(model, plan(name))
    assert [skip.reason for skip in outcome.skipped] == ["no residual block ends here"]
    assert digest(model) == before


def test_a_block_in_a_dropped_block_goes_with_it() -> None:
    model = named(graph("""(float[N,8] x) => (float[N,8] y) <float[8,8] u, float[8,8] w> {
        x1 = Relu(x) a = MatMul(x1, u) b = Add(x1, a) c = MatMul(b, w) d = Add(x1, c) y = Neg(d) }""")())
    outcome = assert_keeps_promises(model, DropBlocks(), plan("b", "d"))
    assert len(outcome.changed) == 2
    assert [node.op_type for node in model.graph] == ["Relu", "Neg"]


@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_each_block_of_a_trained_model_can_leave(kind: digits.Kind) -> None:
    model = ir.load(Path(digits.path(kind)))
    clean(CONTEXT.target).run(model, CONTEXT)
    blocks = find_blocks(model)
    for block in blocks:
        fork = model.clone()
        assert_keeps_promises(fork, DropBlocks(), plan(block.site.name))
        gone = {node.name for node in model.graph} - {node.name for node in fork.graph}
        assert gone == set(block.nodes)
        assert_valid(fork)
        names = [block.site.name for block in find_blocks(fork)]
        assert names == [other.site.name for other in blocks if other is not block]
        zeroed = _without_what_it_adds(model, block.site.name, block.entry)
        assert_equivalent(zeroed, fork, {"x": digits.arrays("test")[0][:4]})


def _without_what_it_adds(model: ir.Model, name: str, entry: int) -> ir.Model:
    copy = model.clone()
    add = next(node for node in copy.graph if node.name == name)
    zero = ir.Value(name="zero", const_value=ir.tensor(np.zeros((), np.float32), name="zero"))
    copy.graph.register_initializer(zero)
    add.replace_input_with(1 - entry, zero)
    return copy
