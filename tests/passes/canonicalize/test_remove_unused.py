from __future__ import annotations

import pytest

from lwc.compiler.testing import CONTEXT, assert_rewrites, assert_unchanged, parse
from lwc.passes.canonicalize.remove_unused import RemoveUnused


def test_removes_nodes_and_initializers_that_nobody_reads() -> None:
    model = parse("g (float[2] x) => (float[2] y) <float w = {1}> { a = Exp(x)\n b = Add(a, w)\n y = Neg(x) }")
    assert RemoveUnused().run(model, CONTEXT).changed
    assert [node.op_type for node in model.graph] == ["Neg"]
    assert not model.graph.initializers


def test_keeps_inputs_that_nobody_reads() -> None:
    assert_unchanged("g (float[2] x, float[2] z) => (float[2] y) { y = Neg(x) }", RemoveUnused())


def test_drops_an_optional_output_that_nobody_reads() -> None:
    assert_rewrites(
        "g (float[2] x) => (float[2] y) { y, m = Dropout(x) }",
        RemoveUnused(),
        "g (float[2] x) => (float[2] y) { y = Dropout(x) }",
    )


def test_what_only_an_unused_branch_reads_goes_too() -> None:
    model = parse(
        "g (bool c, float[2] x) => (float[2] y) { t = Exp(x)\n r = If(c) <"
        "then_branch = p () => (float[2] u) { u = Neg(t) }, else_branch = q () => (float[2] v) { v = Abs(t) }>\n"
        "y = Neg(x) }"
    )
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Neg"]


def test_removes_unused_initializers_of_a_branch() -> None:
    model = parse(
        "g (bool c, float[2] x) => (float[2] y) { y = If(c) <"
        "then_branch = p () => (float[2] u) <float w = {1}> { u = Neg(x) },"
        "else_branch = q () => (float[2] v) { v = Abs(x) }> }"
    )
    assert RemoveUnused().run(model, CONTEXT).changed
    assert not next(iter(model.graph)).attributes["then_branch"].as_graph().initializers


@pytest.mark.parametrize("reads", ["u = Neg(t)", "u = Neg(x)"])
def test_what_a_used_branch_reads_stays(reads: str) -> None:
    model = parse(
        "g (bool c, float[2] x) => (float[2] y) { t = Exp(x)\n y = If(c) <then_branch = p () => (float[2] u) { "
        + reads + " }, else_branch = q () => (float[2] v) { v = Abs(x) }> }"
    )  # fmt: skip
    RemoveUnused().run(model, CONTEXT)
    assert ("Exp" in [node.op_type for node in model.graph]) == ("(t)" in reads)


def test_removes_functions_and_opsets_that_nothing_uses() -> None:
    model = parse(
        '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n g (float[2] x) => (float[2] y) { y = Neg(x) }'
        '<domain: "local", opset_import: ["" : 17]> f (a) => (b) { b = Neg(a) }'
    )
    RemoveUnused().run(model, CONTEXT)
    assert not model.functions
    RemoveUnused().run(model, CONTEXT)
    assert set(model.opset_imports) == {""}
