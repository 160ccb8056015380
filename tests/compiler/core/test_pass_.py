"""A pipeline runs its passes in order, stops when nothing changes, and says where it failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir
import pytest
from onnx import parser

from lwc.compiler.core.errors import InternalError, UnsupportedOpset
from lwc.compiler.core.pass_ import ForeignPass, Outcome, Pass, PassContext, Pipeline, Skip, whole_graph
from lwc.compiler.core.plan import Site
from lwc.compiler.core.target import NAMED

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])


@dataclass(frozen=True)
class Replace(Pass):
    """Turns the first node of one operator into another."""

    name: ClassVar[str] = "replace"

    old: str = "Neg"
    new: str = "Abs"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        for node in model.graph:
            if node.op_type == self.old:
                node.op_type = self.new
                return Outcome((Site(node.name or "", self.new),))
        return Outcome(skipped=(Skip(whole_graph(model), f"no {self.old}"),))


@dataclass(frozen=True)
class Fail(Pass):
    name: ClassVar[str] = "fail"

    error: BaseException = field(default_factory=lambda: ValueError("an odd shape"))

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        raise self.error


@dataclass(frozen=True)
class Liar(ForeignPass):
    """Changes the graph, or not, and says nothing."""

    name: ClassVar[str] = "liar"

    changes: bool = True

    def rewrite(self, model: ir.Model, ctx: PassContext) -> None:
        if self.changes:
            next(iter(model.graph)).op_type = "Sqrt"
        next(iter(model.graph)).name = "renamed"


@pytest.fixture
def model() -> ir.Model:
    model = ir.from_proto(
        parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) y = Neg(b) }"""
        )
    )
    for k, node in enumerate(model.graph):
        node.name = f"n{k}"
    return model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_runs_passes_in_order(model: ir.Model) -> None:
    outcome = Pipeline((Replace("Neg", "Abs"), Replace("Abs", "Exp"))).run(model, CONTEXT)
    assert operators(model) == ["Exp", "Neg", "Neg"]
    assert outcome.changed == (Site("n0", "Abs"), Site("n0", "Exp"))


def test_one_round_by_default(model: ir.Model) -> None:
    Pipeline((Replace(),)).run(model, CONTEXT)
    assert operators(model) == ["Abs", "Neg", "Neg"]


def test_repeats_until_nothing_changes(model: ir.Model) -> None:
    ran: list[str] = []
    outcome = Pipeline((Replace(),), rounds=10).run(model, CONTEXT, lambda name, _: ran.append(name))
    assert operators(model) == ["Abs", "Abs", "Abs"]
    assert ran == ["replace"] * 4
    assert len(outcome.changed) == 3
    assert outcome.skipped == (Skip(Site("g", "Graph", "graph"), "no Neg", by="replace"),)


def test_names_each_skip_once(model: ir.Model) -> None:
    outcome = Pipeline((Replace("Gelu"), Replace("Gelu"), Replace()), rounds=3).run(model, CONTEXT)
    assert [skip.reason for skip in outcome.skipped] == ["no Gelu"]


def test_tells_a_listener_of_every_pass(model: ir.Model) -> None:
    heard: list[tuple[str, bool]] = []
    Pipeline((Replace(), Liar(changes=False))).run(
        model, CONTEXT, lambda name, outcome: heard.append((name, bool(outcome.changed)))
    )
    assert heard == [("replace", True), ("liar", False)]


def test_an_exception_names_the_pass_and_those_before_it(model: ir.Model) -> None:
    with pytest.raises(InternalError) as caught:
        Pipeline((Replace(), Liar(), Fail(), Replace())).run(model, CONTEXT)
    assert caught.value.message == (
        "pass 'fail' failed with ValueError: an odd shape (passes that ran before it: replace, liar)."
    )
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_exception_of_the_first_pass_names_none_before_it(model: ir.Model) -> None:
    with pytest.raises(InternalError, match=r"passes that ran before it: none"):
        Pipeline((Fail(),)).run(model, CONTEXT)


def test_an_error_on_purpose_passes_through(model: ir.Model) -> None:
    error = UnsupportedOpset("opset 3")
    with pytest.raises(UnsupportedOpset) as caught:
        Pipeline((Fail(error),)).run(model, CONTEXT)
    assert caught.value is error


def test_an_interrupt_passes_through(model: ir.Model) -> None:
    with pytest.raises(KeyboardInterrupt):
        Pipeline((Fail(KeyboardInterrupt()),)).run(model, CONTEXT)


@pytest.mark.parametrize("changes", [True, False])
def test_a_foreign_pass_is_judged_by_digests(changes: bool, model: ir.Model) -> None:
    outcome = Liar(changes).run(model, CONTEXT)
    assert outcome == Outcome((Site("g", "Graph", "graph"),) if changes else ())


def test_an_empty_pipeline_does_nothing(model: ir.Model) -> None:
    assert Pipeline((), rounds=3).run(model, CONTEXT) == Outcome()


def test_passes_are_equal_by_their_options() -> None:
    assert Replace("a") == Replace("a") != Replace("b")
