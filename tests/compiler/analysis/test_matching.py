"""Parameters are matched by what reads them, whatever they are called and in whatever order nodes stand."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lwc.compiler.analysis.matching import Matching, match
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext, Pipeline
from lwc.compiler.core.target import NAMED
from lwc.compiler.merging.align import PLAIN
from lwc.compiler.testing import HEADER
from lwc.models import digits
from lwc.models.structures import bert, mobilenet_v2, resnet18


def plain(proto: onnx.ModelProto, name: str = "model") -> Model:
    """As alignment gives models to matching."""
    model = Model.from_proto(proto, name)
    model.ir.graph.sort()
    Pipeline(PLAIN).run(model.ir, PassContext(NAMED["cpu:x86-64-v4"]))
    return model


def text(body: str, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """A model from ONNX text with random weights of these shapes."""
    proto = onnx.parser.parse_model(HEADER + body)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    return proto


def renamed(proto: onnx.ModelProto, seed: int = 0) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A copy with other names inside, nodes and initializers shuffled, and operands of sums swapped; the new names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    rng, graph = random.Random(seed), copy.graph
    outer = {value.name for value in (*graph.input, *graph.output)}
    inner = [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output]
    names = {name: f"v{k}" for k, name in enumerate(rng.sample(inner, len(inner))) if name not in outer}
    for node in graph.node:
        node.name = ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        if node.op_type in ("Add", "Mul"):
            node.input[:] = rng.sample(list(node.input), 2)
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for part in (graph.node, graph.initializer):
        shuffled = rng.sample(list(part), len(part))
        del part[:]
        part.extend(shuffled)
    del graph.value_info[:]
    return copy, names


def floats(proto: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}


MODELS = {
    "resnet18": lambda: resnet18(size=32, fold=False),
    "mobilenet_v2": lambda: mobilenet_v2(size=32),
    "bert": lambda: bert(layers=2, hidden=24, heads=2, tokens=8, vocab=50),
    "cnn": lambda: onnx.load(digits.path("cnn")),
    "transformer": lambda: onnx.load(digits.path("transformer")),
    "gru": lambda: onnx.load(digits.path("gru")),
}


@pytest.mark.parametrize("name", MODELS)
def test_renamed_and_shuffled_models_match_completely_and_rightly(name: str) -> None:
    proto = MODELS[name]()
    other, names = renamed(proto)
    found = match(plain(proto), plain(other))
    assert found.complete, (found.only_a[:3], found.only_b[:3])
    pairs = {a: b for a, b in found.pairs if a in floats(proto)}
    assert set(pairs) == floats(proto)
    assert pairs == {a: names[a] for a in pairs}
    assert found.guessed == ()


def test_layers_of_equal_shape_are_told_apart_by_what_follows() -> None:
    body = "g (float[2, 4] x) => (float[2, 4] y) { a = MatMul(x, p) b = MatMul(x, q) c = Relu(b) y = Sub(a, c) }"
    swapped = "g (float[2, 4] x) => (float[2, 4] y) { b = MatMul(x, q) c = Relu(b) a = MatMul(x, p) y = Sub(a, c) }"
    shapes = {"p": (4, 4), "q": (4, 4)}
    other, names = renamed(text(swapped, **shapes))
    assert set(match(plain(text(body, **shapes)), plain(other)).pairs) == {("p", names["p"]), ("q", names["q"])}


TWINS = "g (float[2, 4] x) => (float[2, 4] y) { a = MatMul(x, p) b = MatMul(x, q) y = Add(a, b) }"


def test_equal_branches_are_told_apart_by_name() -> None:
    turned = TWINS.replace("a = MatMul(x, p) b = MatMul(x, q)", "b = MatMul(x, q) a = MatMul(x, p)")
    found = match(plain(text(TWINS, p=(4, 4), q=(4, 4))), plain(text(turned, p=(4, 4), q=(4, 4))))
    assert set(found.pairs) == {("p", "p"), ("q", "q")}
    assert found.guessed == ()


def test_equal_branches_without_common_names_are_matched_in_order_and_told() -> None:
    other = "g (float[2, 4] x) => (float[2, 4] y) { c = MatMul(x, u) d = MatMul(x, v) y = Add(c, d) }"
    found = match(plain(text(TWINS, p=(4, 4), q=(4, 4))), plain(text(other, u=(4, 4), v=(4, 4))))
    assert set(found.pairs) == {("p", "u"), ("q", "v")}
    assert len(found.guessed) == 1


def test_a_tensor_that_is_shared_in_one_model_is_in_several_pairs() -> None:
    body = "g (float[2, 4] x) => (float[2, 4] y) { a = Relu(x) b = MatMul(x, p) c = MatMul(b, q) y = Sub(a, c) }"
    shared = plain(text(body.replace("q", "p"), p=(4, 4)))
    found = match(shared, plain(text(body, p=(4, 4), q=(4, 4))))
    assert found.complete
    assert found.pairs == (("p", "p"), ("p", "q"))


def head(classes: int) -> onnx.ModelProto:
    body = "g (float[2, 4] x) => (float[2, N] y) { a = MatMul(x, p) b = Relu(a) c = MatMul(b, q) y = Add(c, r) }"
    return text(body, p=(4, 8), q=(8, classes), r=(classes,))


def reasons(found: Matching) -> dict[str, str]:
    return {one.name: one.reason for one in found.only_a}


def test_another_head_is_listed_with_its_shapes_and_the_trunk_matches() -> None:
    found = match(plain(head(10)), plain(head(7)))
    assert found.pairs == (("p", "p"),)
    assert reasons(found) == {"q": "'q' has the shape [8, 7]", "r": "'r' has the shape [7]"}
    assert [(one.name, one.shape) for one in found.only_b] == [("q", (8, 7)), ("r", (7,))]


def test_a_missing_bias_is_listed() -> None:
    body = "g (float[1, 2, 4, 4] x) => (float[1, 3, 4, 4] y) { y = Conv <kernel_shape = [1, 1]> (x, w, b) }"
    a, b = text(body, w=(3, 2, 1, 1), b=(3,)), text(body.replace(", b)", ")"), w=(3, 2, 1, 1))
    found = match(plain(a), plain(b))
    assert list(reasons(found)) == ["b"]
    assert "reads nothing there" in reasons(found)["b"]


@pytest.mark.parametrize(("one", "other", "same"), [
    ("<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>", "<pads = [1, 1, 1, 1], group = 1, strides = [1, 1]>", True),
    ("<pads = [1, 1, 1, 1]>", "<pads = [1, 1, 1, 1], dilations = [1, 1], auto_pad = \"NOTSET\">", True),
    ("<pads = [1, 1, 1, 1]>", "<pads = [1, 1, 1, 1], strides = [2, 2]>", False),
])  # fmt: skip
def test_attributes_count_and_defaults_do_not(one: str, other: str, same: bool) -> None:
    body = "g (float[1, 2, 4, 4] x) => (float[1, 3, N, M] y) { y = Conv ATTRIBUTES (x, w) }"
    a, b = (plain(text(body.replace("ATTRIBUTES", how), w=(3, 2, 3, 3))) for how in (one, other))
    assert match(a, b).complete == same


def test_other_operators_are_listed_with_their_readers() -> None:
    body = "g (float[2, 4] x) => (float[2, 4] y) { a = MatMul(x, p) y = Relu(a) }"
    found = match(plain(text(body, p=(4, 4))), plain(text(body.replace("MatMul", "Sub"), p=(4, 4))))
    assert found.pairs == ()
    assert "nothing corresponds to its reader" in reasons(found)["p"]


def test_another_activation_between_equal_layers_is_listed() -> None:
    body = "g (float[2, 4] x) => (float[2, 4] y) { a = MatMul(x, p) b = Relu(a) y = MatMul(b, q) }"
    a, b = (plain(text(body.replace("Relu", op), p=(4, 4), q=(4, 4))) for op in ("Relu", "Tanh"))
    found = match(a, b)
    assert found.pairs == (("p", "p"), ("q", "q"))
    assert [one.reason for one in found.only_a] == ["nothing corresponds to the operator Relu"]
    assert not found.complete


def test_integers_that_differ_are_listed() -> None:
    body = "g (float[2, 4] x) => (float[N, M] y) <int64[2] s = {SHAPE}> { y = Reshape(x, s) }"
    a, b = (plain(text(body.replace("SHAPE", sizes))) for sizes in ("4, 2", "8, 1"))
    assert reasons(match(a, b)) == {"s": "'s' holds other integers"}


def test_parameters_within_branches_match() -> None:
    body = """g (float[2, 4] x, bool c) => (float[2, 4] y) {
        y = If (c) <
            then_branch = t () => (float[2, 4] u) { u = MatMul(x, p) },
            else_branch = e () => (float[2, 4] v) { w = Relu(x) v = MatMul(w, q) }
        > }"""
    other, names = renamed(text(body.replace("p)", "r)").replace("q)", "s)"), r=(4, 4), s=(4, 4)))
    for node in other.graph.node:
        for attribute in node.attribute:
            for inner in attribute.g.node:
                inner.input[:] = [names.get(name, name) for name in inner.input]
    found = match(plain(text(body, p=(4, 4), q=(4, 4))), plain(other))
    assert set(found.pairs) == {("p", names["r"]), ("q", names["s"])}
