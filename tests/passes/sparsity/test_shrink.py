"""Edits of a graph that loses channels: tensors are replaced, shared constants part, refusals have reasons."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.digest import digest
from lwc.compiler.core.pass_ import Outcome, PassContext
from lwc.compiler.core.plan import Plan, Pruned, Site
from lwc.compiler.testing import CONTEXT, assert_keeps_promises, assert_valid
from lwc.models.tiny.text import graph
from lwc.passes.sparsity.prune_channels import PRUNED_KEY, PruneChannels

SHARED_BIAS = """(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[6,6] w2, float[6,3] w3, float[6] b>
    { a = MatMul(x, w1) c = Add(a, b) d = MatMul(c, w2) e = Add(d, b) y = MatMul(e, w3) }"""
HEADS = """(float[2,N,4] x) => (float[2,N,3] y) <float[4,12] w1, float[12,3] w2, int64[4] s = {0,0,3,-1},
    int64[3] t = {0,0,12}>
    { a = MatMul(x, w1) r = Reshape(a, s) h = Relu(r) f = Reshape(h, t) y = MatMul(f, w2) }"""


def built(text: str, opset: int = 17) -> ir.Model:
    model = graph(text, opset)()
    for node in model.graph:
        node.name = node.outputs[0].name
    infer_shapes(model)
    return model


def prune(model: ir.Model, **removed: tuple[int, ...]) -> Outcome:
    """Keys are names of sites, with '_' for '#'."""
    choices = {site_named(model, name.replace("_", "#")): Pruned(gone) for name, gone in removed.items()}
    return assert_keeps_promises(model, PruneChannels(), PassContext(CONTEXT.target, Plan(choices)))


def site_named(model: ir.Model, name: str) -> Site:
    node = next((node for node in model.graph if node.name == name.split("#")[0]), None)
    return Site(name, "" if node is None else node.op_type, "channels")


def constant(model: ir.Model, node: str, index: int) -> np.ndarray:
    value = next(n for n in model.graph if n.name == node).inputs[index]
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def test_what_a_fork_shares_is_left_as_it_is() -> None:
    model = built(SHARED_BIAS)
    before, arrays = digest(model), {k: v.const_value.numpy().copy() for k, v in model.graph.initializers.items()}
    fork = model.clone()
    prune(fork, a=(0, 2))
    assert digest(model) == before
    assert all(np.array_equal(v.const_value.numpy(), arrays[k]) for k, v in model.graph.initializers.items())


def test_a_vector_that_two_readers_share_parts() -> None:
    model = built(SHARED_BIAS)
    whole = constant(model, "c", 1)
    prune(model, a=(0, 2))
    assert np.array_equal(constant(model, "c", 1), whole[[1, 3, 4, 5]])
    assert np.array_equal(constant(model, "e", 1), whole)
    assert constant(model, "d", 1).shape == (4, 6)


def test_readers_that_see_the_same_go_on_sharing() -> None:
    model = built(SHARED_BIAS)
    prune(model, a=(0, 2), d=(0, 2))
    assert {use.node.name for use in model.graph.initializers["b"].uses()} == {"c", "e"}


def test_constants_that_nobody_reads_are_gone() -> None:
    model = built(SHARED_BIAS)
    prune(model, a=(0, 2), d=(1,))
    assert all(value.uses() for value in model.graph.initializers.values())


def test_numbers_in_a_shape_follow_and_those_of_unknown_sizes_stay() -> None:
    model = built(HEADS)
    prune(model, a_0=(1,), a_1=(0,))
    assert constant(model, "r", 1).tolist() == [2, 0, 2, 3]
    assert constant(model, "f", 1).tolist() == [2, 0, 6]
    assert_valid(model)


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_parts_of_a_split_follow_in_every_opset(opset: int) -> None:
    attribute = ", num_outputs = 2" if opset == 18 else ", split = [4, 2]" if opset == 11 else ""
    size = 6 if opset == 11 else 8
    weights = (4, 2) if opset == 11 else (4, 4)
    model = built(
        f"""(float[2,4] x) => (float[2,3] y, float[2,3] z)
        <float[4,{size}] w1, float[{weights[0]},3] w2, float[{weights[1]},3] w3>
        {{ a = MatMul(x, w1) b, c = Split <axis = 1{attribute}> (a) y = MatMul(b, w2) z = MatMul(c, w3) }}""",
        opset,
    )
    prune(model, a_0=(0, 1, 2))
    assert constant(model, "y", 1).shape == (1, 3)
    assert_valid(model)


@pytest.mark.parametrize(
    ("name", "removed", "words"),
    [
        ("a", (0, 1, 2, 3, 4, 5), "at least one channel has to stay"),
        ("a", (5, 6), "it has channels 0 to 5"),
        ("y", (0,), "no channels that can leave begin here"),
        ("nowhere", (0,), "no channels that can leave begin here"),
    ],
)
def test_a_choice_that_cannot_be_applied_is_skipped(name: str, removed: tuple[int, ...], words: str) -> None:
    model = built(SHARED_BIAS)
    outcome = prune(model, **{name: removed})
    assert outcome.changed == ()
    assert [skip.reason for skip in outcome.skipped] == [words]


def test_one_choice_that_cannot_be_applied_does_not_hold_up_others() -> None:
    model = built(SHARED_BIAS)
    outcome = prune(model, a=(0,), d=tuple(range(6)))
    assert [site.name for site in outcome.changed] == ["a"]
    assert [skip.site.name for skip in outcome.skipped] == ["d"]


def test_what_was_pruned_is_marked_and_not_pruned_again() -> None:
    model = built(HEADS)
    prune(model, a_1=(0,))
    assert next(n for n in model.graph if n.name == "a").metadata_props[PRUNED_KEY] == "a#1"
    prune(model, a_0=(0,), a_1=(0,))
    assert constant(model, "r", 1).tolist() == [2, 0, 2, 3]


def test_nothing_removed_is_nothing_done() -> None:
    model = built(SHARED_BIAS)
    assert prune(model, a=()) == Outcome()


def test_a_half_precision_weight_keeps_its_type() -> None:
    model = built("""(float16[2,4] x) => (float16[2,3] y) <float16[4,6] w1, float16[6,3] w2>
        { a = MatMul(x, w1) y = MatMul(a, w2) }""")
    prune(model, a=(0,))
    assert {value.dtype for value in model.graph.initializers.values()} == {ir.DataType.FLOAT16}
    assert {value.const_value.dtype for value in model.graph.initializers.values()} == {ir.DataType.FLOAT16}


def test_find_channels_agrees_with_the_smaller_model() -> None:
    model = built(HEADS)
    prune(model, a_0=(1,), a_1=(0,))
    assert [(group.site.name, group.size) for group in find_channels(model).groups] == [("a#0", 2), ("a#1", 3)]
