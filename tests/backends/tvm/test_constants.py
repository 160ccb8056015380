from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm import IRModule, relax

from lwc.backends.tvm import constants
from lwc.backends.tvm.constants import FoldWithNumPy

A = np.arange(6, dtype=np.float32).reshape(2, 3) + 1
Build = Callable[[relax.Expr, relax.Expr], relax.Expr]
OPERATORS: dict[str, tuple[Build, Any]] = {
    "permute_dims": (lambda a, _: relax.op.permute_dims(a), A.T),
    "permute_dims by axes": (lambda a, _: relax.op.permute_dims(a, [1, 0]), A.T),
    "reshape": (lambda a, _: relax.op.reshape(a, (3, 2)), A.reshape(3, 2)),
    "expand_dims": (lambda a, _: relax.op.expand_dims(a, [0, 2]), A[None, :, None]),
    "squeeze": (lambda a, _: relax.op.squeeze(relax.op.expand_dims(a, 0), [0]), A),
    "rsqrt": (lambda a, _: relax.op.rsqrt(a), 1 / np.sqrt(A)),
    "a chain": (lambda a, b: relax.op.multiply(relax.op.add(a, b), relax.op.sqrt(a)), (A + 2) * np.sqrt(A)),
}


def module(build: Build) -> IRModule:
    """x + what is built of the constants A and 2."""
    bb = relax.BlockBuilder()
    with bb.function("main"):
        made = bb.emit(build(relax.const(A), relax.const(np.float32(2))))
        x = relax.Var("x", made.ty)
        result = bb.emit(relax.op.add(x, made))
        bb.emit_func_output(result, [x])
    return bb.get()


def calls(mod: IRModule) -> list[relax.Call]:
    mod = relax.transform.CanonicalizeBindings()(mod)  # constants to where they are read
    return [binding.value for block in mod["main"].body.blocks for binding in block.bindings
            if isinstance(binding.value, relax.Call)]  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_what_constants_give_is_computed(name: str) -> None:
    build, expected = OPERATORS[name]
    (left,) = calls(FoldWithNumPy()(module(build)))
    assert left.op.name == "relax.add"
    np.testing.assert_allclose(left.args[1].value.numpy(), expected, rtol=1e-6)


def test_operators_outside_the_table_are_left() -> None:
    assert len(calls(FoldWithNumPy()(module(lambda a, _: relax.op.cumsum(a, 0))))) == 2


def test_a_constant_that_would_grow_too_large_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "LARGEST", 5)
    assert len(calls(FoldWithNumPy()(module(OPERATORS["reshape"][0])))) == 2


def test_integers_are_moved_but_not_computed_with() -> None:
    whole = relax.const(np.arange(4, dtype=np.int32).reshape(2, 2))
    left = calls(FoldWithNumPy()(module(lambda *_: relax.op.abs(relax.op.permute_dims(whole)))))
    assert [call.op.name for call in left] == ["relax.abs", "relax.add"]
    assert left[0].args[0].value.numpy().tolist() == [[0, 2], [1, 3]]
