from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, whole_graph
from lwc.compiler.testing import (
    EXACT,
    FP16,
    FP32,
    assert_equivalent,
    assert_rewrites,
    assert_unchanged,
    disagreement,
    draw_feeds,
    parse,
    tolerance_of,
)

TEXT = "g (float[2] x) => (float[2] y) { t = Relu(x)\n y = Neg(t) }"


@dataclass(frozen=True)
class Rename(Pass):
    """Turns every operator `old` into `new`, and can be made to break each promise."""

    name: ClassVar[str] = "rename"
    old: str = "Relu"
    new: str = "Tanh"
    silent: bool = False
    restless: bool = False
    output: str = ""

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        hits = [node for node in model.graph if node.op_type == self.old]
        for node in hits:
            node.op_type = self.new
        if self.restless:
            next(iter(model.graph)).op_type = "Exp" if next(iter(model.graph)).op_type != "Exp" else "Abs"
        if self.output:
            model.graph.outputs[0].name = self.output
        changed = (hits or self.restless) and not self.silent
        return Outcome((whole_graph(model),) if changed else ())


def test_accepts_the_rewrite_that_is_stated() -> None:
    assert_rewrites(TEXT, Rename(), "g (float[2] x) => (float[2] y) { other = Tanh(x)\n y = Neg(other) }")


@pytest.mark.parametrize(
    "after",
    [
        "g (float[2] x) => (float[2] y) { t = Exp(x)\n y = Neg(t) }",
        "g (float[2] x) => (float[2] y) { y = Tanh(x) }",
        "g (float[2] x) => (float[2] y) { t = Neg(x)\n y = Tanh(t) }",
        "g (float[2] z) => (float[2] y) { t = Tanh(z)\n y = Neg(t) }",
        "g (float[2] x) => (float[2] y) { t = Tanh(c)\n y = Neg(t) }",
    ],
)
def test_rejects_another_rewrite(after: str) -> None:
    with pytest.raises(AssertionError):
        assert_rewrites(TEXT, Rename(), after)


def test_an_undeclared_name_stands_for_any_constant_and_a_declared_one_for_its_numbers() -> None:
    text = "g (float[2] x) => (float[2] y) <float c = {2}> { t = Relu(x)\n y = Mul(t, c) }"
    assert_rewrites(text, Rename(), "g (float[2] x) => (float[2] y) { t = Tanh(x)\n y = Mul(t, any) }")
    wrong = "g (float[2] x) => (float[2] y) <float c = {3}> { t = Tanh(x)\n y = Mul(t, c) }"
    with pytest.raises(AssertionError, match="wanted 3"):
        assert_rewrites(text, Rename(), wrong)


def test_attributes_are_compared() -> None:
    text = "g (float[2, 2] x) => (float[2, 2] y) { t = Relu(x)\n y = Softmax<axis=0>(t) }"
    with pytest.raises(AssertionError, match=r"Softmax\.axis"):
        assert_rewrites(text, Rename(), text.replace("Relu", "Tanh").replace("axis=0", "axis=1"))


@pytest.mark.parametrize("broken", [{"silent": True}, {"restless": True}, {"output": "z"}])
def test_rejects_a_pass_that_breaks_a_promise(broken: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        assert_rewrites(TEXT, Rename(**broken), TEXT.replace("Relu", "Tanh"))  # type: ignore[arg-type]


def test_unchanged_means_unchanged() -> None:
    assert_unchanged(TEXT, Rename(old="Exp"))
    with pytest.raises(AssertionError):
        assert_unchanged(TEXT, Rename())


def test_equivalent_models_agree_and_others_do_not() -> None:
    assert_equivalent(parse(TEXT), parse(TEXT))
    with pytest.raises(AssertionError, match="output 'y'"):
        assert_equivalent(parse(TEXT), parse(TEXT.replace("Relu", "Tanh")))


def test_tolerances_go_by_type() -> None:
    assert tolerance_of(np.float32) is FP32
    assert tolerance_of(np.float16) is FP16
    assert tolerance_of(np.int64) is EXACT
    assert tolerance_of(np.bool_) is EXACT


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.float32([1]), np.float32([1.001])),
        (np.float32([np.nan]), np.float32([1])),
        (np.float32([np.inf]), np.float32([-np.inf])),
        (np.float32([1]), np.float64([1])),
        (np.float32([1]), np.float32([[1]])),
        (np.int64([1]), np.int64([2])),
        (np.array(["a"], object), np.array(["b"], object)),
        ([np.float32([1])], [np.float32([1]), np.float32([1])]),
        (None, np.float32([1])),
    ],
)
def test_names_a_disagreement(a: object, b: object) -> None:
    assert disagreement(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.float32([1]), np.float32([1.00001])),
        (np.float32([np.nan, np.inf]), np.float32([np.nan, np.inf])),
        (np.float32([1e6, 0]), np.float32([1e6, 0.1])),
        (np.array(["a"], object), np.array(["a"], object)),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)),
        (None, None),
    ],
)
def test_sees_agreement(a: object, b: object) -> None:
    assert not disagreement(a, b)


def test_feeds_fit_the_inputs_and_repeat_by_seed() -> None:
    model = parse("g (float[N, 2] x, int64[3] i, bool[2] b) => (float[N, 2] y) { y = Relu(x) }")
    feeds = draw_feeds(model)
    assert {name: (array.dtype.name, array.shape) for name, array in feeds.items()} == {
        "x": ("float32", (3, 2)),
        "i": ("int64", (3,)),
        "b": ("bool", (2,)),
    }
    assert all(np.array_equal(feeds[name], array) for name, array in draw_feeds(model).items())
