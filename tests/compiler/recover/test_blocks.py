"""Where graphs are cut."""

from collections.abc import Collection

import pytest

from lwc.compiler.core.inference import infer_shapes
from lwc.compiler.core.model import Model
from lwc.models.tiny.text import graph

pytest.importorskip("torch")

from lwc.compiler.recover.blocks import Cut, find_cuts
from lwc.compiler.recover.roles import find_roles

CHAIN = """(float[N,4] x) => (float[N,4] y) <float[4,4] w1, float[4] b1, float[4,4] w2, float[4,4] w3>
    { a = MatMul(x, w1) c = Add(a, b1) r = Relu(c) d = MatMul(r, w2) e = Tanh(d) y = MatMul(e, w3) }"""
RESIDUAL = """(float[N,4] x) => (float[N,4] y) <float[4,4] w0, float[4,4] w1, float[4,4] w2, float[4,4] w3>
    { s = MatMul(x, w0) a = MatMul(s, w1) r = Relu(a) d = MatMul(r, w2) t = Add(s, d) y = MatMul(t, w3) }"""

def cuts(text: str, known: Collection[str] = "abcdefghijklmnopqrst") -> list[Cut]:
    model = Model(graph(text)(), "graph")
    infer_shapes(model.ir)
    return find_cuts(model, known, find_roles(model, everything=False))


def test_a_chain_is_cut_before_each_product_but_the_first() -> None:
    assert cuts(CHAIN) == [Cut(("r",), ("r",)), Cut(("e",), ("e",))]


def test_values_the_teacher_lacks_are_no_cuts() -> None:
    assert cuts(CHAIN, known="acd") == [Cut(("c",), ("c",)), Cut(("d",), ("d",))]
    assert cuts(CHAIN, known="") == []


def test_residual_blocks_stay_whole() -> None:
    assert cuts(RESIDUAL) == [Cut(("s",), ("s",)), Cut(("t",), ("t",))]


def test_more_values_may_cross_where_there_is_no_narrower_cut() -> None:
    text = """(float[N,4] x) => (float[N,8] y) <float[4,4] w1, float[4,4] w2, float[4,4] w3>
        { s = Relu(x) a = MatMul(s, w1) r = Relu(a) d = MatMul(r, w2) y = Concat <axis = 1> (s, d) }"""
    assert cuts(text) == [Cut(("r", "s"), ("r", "s"))]


def test_what_depends_on_constants_alone_does_not_cross() -> None:
    text = """(float[N,4] x) => (float[N,4] y) <float[4,4] w1, float[4,4] w2, float[4] b>
        { c = Relu(b) a = MatMul(x, w1) d = MatMul(a, w2) y = Add(d, c) }"""
    assert cuts(text) == [Cut(("a",), ("a",))]


def test_sizes_cross_beside_what_is_taught() -> None:
    text = """(float[N,4] x) => (float[N,4] y) <float[4,4] w1, float[4,4] w2>
        { h = Relu(x) s = Shape(h) a = MatMul(h, w1) d = MatMul(a, w2) y = Reshape(d, s) }"""
    assert cuts(text) == [Cut(("a", "s"), ("a",))]


def test_there_are_at_most_sixteen_blocks() -> None:
    layers = 40
    weights = ", ".join(f"float[4,4] w{k}" for k in range(layers))
    nodes = " ".join(f"v{k + 1} = MatMul(v{k}, w{k})" for k in range(layers))
    text = f"(float[N,4] v0) => (float[N,4] v{layers}) <{weights}> {{ {nodes} }}"
    assert len(cuts(text, known=[f"v{k}" for k in range(layers)])) == 15
