from __future__ import annotations

import pytest

from lwc.compiler.testing import CONTEXT, assert_unchanged, parse
from lwc.passes.canonicalize.merge_casts import MergeCasts
from lwc.passes.canonicalize.remove_unused import RemoveUnused

FLOAT, INT32, INT64, STRING, BOOL, FLOAT16, DOUBLE = 1, 6, 7, 8, 9, 10, 11


def text(kind: str, first: int, second: int, result: str) -> str:
    return f"g ({kind}[2] x) => ({result}[2] y) {{ t = Cast<to={first}>(x)\n y = Cast<to={second}>(t) }}"


@pytest.mark.parametrize(
    ("kind", "first", "second", "result"),
    [
        ("int32", INT64, FLOAT, "float"),
        ("float16", FLOAT, INT64, "int64"),
        ("float", DOUBLE, FLOAT16, "float16"),
        ("bool", INT64, FLOAT, "float"),
        ("float", DOUBLE, FLOAT, "float"),
    ],
)
def test_a_cast_that_loses_nothing_is_skipped(kind: str, first: int, second: int, result: str) -> None:
    model = parse(text(kind, first, second, result))
    assert MergeCasts().run(model, CONTEXT).changed
    RemoveUnused().run(model, CONTEXT)
    assert [node.attributes["to"].as_int() for node in model.graph] == [second]


@pytest.mark.parametrize(
    ("kind", "first", "second", "result"),
    [
        ("float", INT64, FLOAT, "float"),
        ("float", FLOAT16, FLOAT, "float"),
        ("int64", FLOAT, INT64, "int64"),
        ("int32", FLOAT, INT32, "int32"),
        ("int64", BOOL, INT64, "int64"),
        ("int32", INT64, STRING, "string"),
    ],
)
def test_a_cast_that_loses_something_stays(kind: str, first: int, second: int, result: str) -> None:
    assert_unchanged(text(kind, first, second, result), MergeCasts())
