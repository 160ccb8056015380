"""Groups as data: names, what stays and why, masks; the rules themselves are in test_channel_rules.py."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.channels import Channels, find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.plan import Site
from lwc.models.tiny.text import graph


def found(text: str, opset: int = 17, domains: tuple[str, ...] = ()) -> Channels:
    model = graph(text, opset, domains)()
    for node in model.graph:
        node.name = f"node_{node.outputs[0].name}"
    infer_shapes(model)
    return find_channels(model)


def reason(channels: Channels, value: str) -> tuple[str, str, str]:
    refusal = next(refusal for refusal in channels.refused if refusal.value == value)
    return refusal.operator, refusal.node, refusal.reason


HEADS = """(float[2,5,4] x) => (float[2,5,3] y) <float[4,12] w1, float[12,3] w2, int64[4] s = {2,5,3,4},
    int64[3] t = {2,5,12}>
    { a = MatMul(x, w1) r = Reshape(a, s) h = Relu(r) f = Reshape(h, t) y = MatMul(f, w2) }"""


def test_a_site_is_named_after_the_first_node_that_makes_the_channels() -> None:
    channels = found("""(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[4,6] w2, float[6,3] w3>
        { a = MatMul(x, w1) b = MatMul(x, w2) c = Add(b, a) y = MatMul(c, w3) }""")
    assert [group.site for group in channels.groups] == [Site("node_a", "MatMul", "channels")]
    group = channels.groups[0]
    assert [(slot.node, slot.index, slot.value, slot.axis) for slot in group.producers] == [
        ("node_a", 1, "w1", 1),
        ("node_b", 1, "w2", 1),
    ]
    assert [(slot.node, slot.index, slot.value, slot.axis) for slot in group.consumers] == [("node_y", 1, "w3", 0)]
    assert [slot.value for slot in group.constants] == ["w1", "w2", "w3"]
    assert channels.at(group.site) is group
    assert channels.at(Site("node_b", "MatMul", "channels")) is None


def test_a_node_that_makes_several_groups_numbers_them() -> None:
    heads, inner = found(HEADS).groups
    assert (heads.site.name, heads.size, heads.heads) == ("node_a#0", 3, True)
    assert (inner.site.name, inner.size, inner.heads) == ("node_a#1", 4, False)
    assert heads.constants[0].positions.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert inner.constants[0].positions.tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]


def test_masks_of_several_groups_meet() -> None:
    channels = found(HEADS)
    heads, inner = (group.site for group in channels.groups)
    masks = channels.keep({heads: [1], inner: [0, 3]})
    whole = np.array([0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0], np.bool_)
    assert np.array_equal(masks["w1", 1], whole)
    assert np.array_equal(masks["f", 2], whole)
    assert np.array_equal(masks["r", 2], [True, False, True])
    assert np.array_equal(masks["h", 3], [False, True, True, False])
    assert ("x", 2) not in masks
    assert ("y", 2) not in masks


def test_an_unknown_site_is_an_error() -> None:
    with pytest.raises(KeyError):
        found(HEADS).keep({Site("node_y", "MatMul", "channels"): [0]})


def test_what_the_caller_gives_and_reads_stays() -> None:
    channels = found("""(float[2,4] x) => (float[2,6] y, float[2,4] z) <float[4,6] w1, float[4,4] w2>
        { y = MatMul(x, w1) m = MatMul(x, w2) z = Add(m, x) }""")
    assert channels.groups == ()
    assert reason(channels, "w1") == ("graph output", "y", "the caller reads it")
    assert reason(channels, "w2")[0] in ("graph input", "graph output")


@pytest.mark.parametrize(
    ("nodes", "operator", "words"),
    [
        ("s = Softmax(a) y = MatMul(s, w2)", "Softmax", "all values along it are compared"),
        ("s = CumSum(a, one) y = MatMul(s, w2)", "CumSum", "channels are computed from those beside them"),
        ("s = my.Thing(a) y = MatMul(s, w2)", "Thing", "there is no rule for it"),
        ("v, s = TopK(a, six) c = Cast <to = 1> (s) y = MatMul(c, w2)", "TopK", "places along it are counted"),
        ("s = Gather <axis = 1> (a, some) y = MatMul(s, w2)", "Gather", "its entries are looked up by number"),
    ],
)
def test_a_refusal_names_operator_node_and_reason(nodes: str, operator: str, words: str) -> None:
    channels = found(
        f"""(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[6,3] w2, int64 one = {{1}}, int64[1] six = {{6}},
        int64[6] some = {{5, 1, 1, 0, 2, 2}}> {{ a = MatMul(x, w1) {nodes} }}""",
        domains=("my",),
    )
    node = "node_v" if operator == "TopK" else "node_s"
    assert reason(channels, "w1") == (operator, node, words)
    assert all(slot.value != "w1" for group in channels.groups for slot in group.constants)


def test_what_a_subgraph_reads_stays() -> None:
    channels = found("""(float[2,4] x, bool c) => (float[2,3] y) <float[4,6] w1, float[4,6] w2, float[6,3] w3>
        { a = MatMul(x, w1) b = MatMul(x, w2)
          s = If (c) <then_branch = t () => (float[2,6] p) { p = Relu(a) },
                      else_branch = e () => (float[2,6] q) { q = Neg(a) }>
          r = Add(s, b) y = MatMul(r, w3) }""")
    assert channels.groups == ()
    assert reason(channels, "w1") == ("If", "node_s", "a subgraph reads it, or makes it")


def test_sizes_that_are_not_static_pin_what_meets_them() -> None:
    channels = found("""(float[2,4] x, float[2,K] z) => (float[2,3] y) <float[4,6] w1, float[6,3] w2>
        { a = MatMul(x, w1) s = Add(a, z) y = MatMul(s, w2) }""")
    assert channels.groups == ()
    assert reason(channels, "w1")[:2] == ("Add", "node_s")


def test_a_tied_matrix_is_one_and_equal_vectors_are_many() -> None:
    channels = found("""(float[2,4] x) => (float[2,3] y) <float[4,6] w1, float[6,6] w2, float[6,3] w3, float[6] b>
        { a = MatMul(x, w1) c = Add(a, b) d = MatMul(c, w2) e = Add(d, b) f = MatMul(e, w2) g = Relu(f)
          y = MatMul(g, w3) }""")
    assert [(group.site.name, group.size) for group in channels.groups] == [("node_a", 6)]
    values = [slot.value for slot in channels.groups[0].constants]
    assert values == ["w1", "b", "w2", "w2", "w3"]


def test_places_and_kernels_of_images_are_no_channels() -> None:
    channels = found("""(float[1,2,6,6] x) => (float[1,3,4,4] y) <float[8,2,3,3] w1, float[3,8,1,1] w3>
        { a = Conv(x, w1) y = Conv(a, w3) }""")
    assert [group.size for group in channels.groups] == [8]


def test_the_analysis_changes_nothing_and_is_the_same_each_time() -> None:
    model = graph(HEADS)()
    for node in model.graph:
        node.name = node.outputs[0].name
    infer_shapes(model)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    first, second = find_channels(model), find_channels(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    assert [group.site for group in first.groups] == [group.site for group in second.groups]
    assert first.refused == second.refused
