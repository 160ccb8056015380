from __future__ import annotations

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_rewrites, assert_unchanged, parse
from lwc.passes.canonicalize.inline_branches import InlineBranches
from lwc.passes.canonicalize.remove_unused import RemoveUnused

IF = (
    "g (float[2] x) => (float[2] y) <bool c = {{{0}}}> {{ t = Exp(x)\n s = Tanh(x)\n r = If(c) <"
    "then_branch = p () => (float[2] u) <float w = {{2}}> {{ m = Relu(t)\n u = Mul(m, w) }},"
    "else_branch = q () => (float[2] v) {{ v = Neg(s) }}>\n y = Abs(r) }}"
)


def test_the_branch_that_is_taken_replaces_the_if() -> None:
    assert_rewrites(
        IF.format(1),
        InlineBranches(),
        "g (float[2] x) => (float[2] y) <float w = {2}>"
        "{ t = Exp(x)\n s = Tanh(x)\n m = Relu(t)\n r = Mul(m, w)\n y = Abs(r) }",
    )


def test_a_false_condition_takes_the_else_branch() -> None:
    assert_rewrites(
        IF.format(0),
        InlineBranches(),
        "g (float[2] x) => (float[2] y) { t = Exp(x)\n s = Tanh(x)\n r = Neg(s)\n y = Abs(r) }",
    )


def test_values_that_only_the_other_branch_read_become_unused() -> None:
    model = parse(IF.format(1))
    InlineBranches().run(model, CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Exp", "Relu", "Mul", "Abs"]


def test_names_of_the_branch_do_not_clash() -> None:
    before = parse(
        "g (float[2] x) => (float[2] y, float[2] z) <bool c = {1}> { r = If(c) <"
        "then_branch = p () => (float[2] u) { m = Relu(x)\n u = Neg(m) },"
        "else_branch = q () => (float[2] v) { v = Neg(x) }>\n s = If(c) <"
        "then_branch = p () => (float[2] u) { m = Exp(x)\n u = Neg(m) },"
        "else_branch = q () => (float[2] v) { v = Neg(x) }>\n y = Abs(r)\n z = Abs(s) }"
    )
    after = before.clone()
    InlineBranches().run(after, CONTEXT)
    assert not any(node.op_type == "If" for node in after.graph)
    assert_equivalent(before, after)


def test_an_outer_value_that_a_branch_hands_out_passes_an_identity() -> None:
    text = (
        "g (float[2] x) => (float[2] y) <bool c = {1}> { t = Exp(x)\n y = If(c) <"
        "then_branch = p () => (float[2] u) { u = Identity(t) }, else_branch = q () => (float[2] v) { v = Neg(t) }> }"
    )
    assert_rewrites(text, InlineBranches(), "g (float[2] x) => (float[2] y) { t = Exp(x)\n y = Identity(t) }")


def test_a_condition_that_callers_can_override_is_not_constant() -> None:
    assert_unchanged(
        "g (float[2] x, bool c = {1}) => (float[2] y) { y = If(c) <"
        "then_branch = p () => (float[2] u) { u = Exp(x) }, else_branch = q () => (float[2] v) { v = Neg(x) }> }",
        InlineBranches(),
    )
