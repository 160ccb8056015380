import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import assert_agrees, model
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model

RNG = np.random.default_rng(0)
FEEDS = {name: RNG.standard_normal((2, 3)).astype(np.float32) for name in "abc"}
GIVEN = "float[2, 3] a, float[2, 3] b, float[2, 3] c"


def text(steps: str, output: str) -> str:
    return f"agraph ({GIVEN}) => ({output}) {{\n ab = SequenceConstruct (a, b)\n {steps} }}"


@pytest.mark.parametrize("position", [None, 0, 1, 2, -1, -2])
def test_insert_before_a_position_or_at_the_end(position: int | None) -> None:
    given = "" if position is None else ", k"
    steps = f"""k = Constant <value_int = {position or 0}> ()
    all = SequenceInsert (ab, c{given})
    y = ConcatFromSequence <axis = 0> (all)"""
    assert_agrees(text(steps, "float[6, 3] y"), FEEDS)


@pytest.mark.parametrize("position", [None, 0, 1, -1, -2])
def test_erase_leaves_the_other(position: int | None) -> None:
    given = "" if position is None else ", k"
    steps = f"""k = Constant <value_int = {position or 0}> ()
    one = SequenceErase (ab{given})
    first = Constant <value_int = 0> ()
    y = SequenceAt (one, first)
    n = SequenceLength (one)"""
    assert_agrees(text(steps, "float[2, 3] y, int64 n"), FEEDS)


@pytest.mark.parametrize("axis", [0, 2, -1, -3])
def test_concat_along_a_new_axis(axis: int) -> None:
    assert_agrees(text(f"y = ConcatFromSequence <axis = {axis}, new_axis = 1> (ab)", "float[p, q, r] y"), FEEDS)


def test_items_of_different_shapes() -> None:
    steps = """start = Constant <value_ints = [1]> ()
    end = Constant <value_ints = [3]> ()
    axis = Constant <value_ints = [1]> ()
    part = Slice (c, start, end, axis)
    all = SequenceInsert (ab, part)
    y = ConcatFromSequence <axis = -1> (all)"""
    assert_agrees(text(steps, "float[2, 8] y"), FEEDS)


@pytest.mark.parametrize("size", ["value_int = 2", "value_int = 4", "value_ints = [2, 0, 3]"])
def test_split_into_pieces_of_which_the_last_may_be_smaller(size: str) -> None:
    x = RNG.standard_normal((2, 5)).astype(np.float32)
    steps = f"""agraph (float[2, 5] x) => (float[2, p] first, float[2, q] last, int64 n) {{
        size = Constant <{size}> ()
        zero = Constant <value_int = 0> ()
        end = Constant <value_int = -1> ()
        parts = SplitToSequence <axis = -1> (x, size)
        first = SequenceAt (parts, zero)
        last = SequenceAt (parts, end)
        n = SequenceLength (parts)
    }}"""
    assert_agrees(steps, {"x": x})


@pytest.mark.parametrize(("keepdims", "shape"), [(0, "2"), (1, "2, 1")])
def test_split_into_single_slices(keepdims: int, shape: str) -> None:
    x = RNG.standard_normal((2, 5)).astype(np.float32)
    steps = f"""agraph (float[2, 5] x) => (float[{shape}] y) {{
        end = Constant <value_int = -2> ()
        parts = SplitToSequence <axis = 1, keepdims = {keepdims}> (x)
        y = SequenceAt (parts, end)
    }}"""
    assert_agrees(steps, {"x": x})


def test_a_position_that_is_known_only_at_run_time_is_refused() -> None:
    proto = model("agraph (float[2] a, int64 k) => (float[2] y) { s = SequenceConstruct (a, a) y = SequenceAt (s, k) }")
    with pytest.raises(UnsupportedOperator, match=r"\(SequenceAt\): the position must be constant"):
        import_model(Model.from_proto(proto))


def test_a_sequence_from_outside_is_refused() -> None:
    proto = model("agraph (seq(float[2]) s) => (int64 n) { n = SequenceLength (s) }")
    with pytest.raises(UnsupportedOperator, match="input 's': it is no tensor"):
        import_model(Model.from_proto(proto))
