from __future__ import annotations

from lwc.compiler.testing import assert_rewrites, assert_unchanged
from lwc.passes.canonicalize.inline_functions import InlineFunctions

HEADER = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n'


def test_a_call_becomes_the_body() -> None:
    assert_rewrites(
        HEADER + "g (float[2] x) => (float[2] y) { t = local.twice(x)\n y = local.twice(t) }"
        '<domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }',
        InlineFunctions(),
        HEADER + "g (float[2] x) => (float[2] y) { t = Add(x, x)\n y = Add(t, t) }",
    )


def test_a_function_of_another_opset_stays() -> None:
    assert_unchanged(
        HEADER + "g (float[2] x) => (float[2] y) { y = local.twice(x) }"
        '<domain: "local", opset_import: ["" : 16]> twice (a) => (b) { b = Add(a, a) }',
        InlineFunctions(),
    )
