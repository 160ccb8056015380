from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_keeps_promises, parse
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.edit import add_initializer
from lwc.passes.fuse.drop_zero_states import DropZeroStates

RNG = np.random.default_rng(0)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrent(op: str, made: str, state: str, constants: str = "") -> ir.Model:
    """One layer of 3 inputs and 2 units, whose initial state is `state`, made by `made`."""
    states = f"{state}, {state}" if op == "LSTM" else state
    model = parse(
        f"g (float[T, N, 3] x) => (float[T, d, N, 2] y) <{constants}> {{ {made}\n"
        f"y = {op}<hidden_size=2>(x, w, r, , , {states}) }}"
    )
    weights = {"w": (1, 2 * GATES[op], 3), "r": (1, 2 * GATES[op], 2)}
    for value in list(list(model.graph)[-1].inputs):
        if value is not None and value.name in weights:
            array = RNG.standard_normal(weights[value.name]).astype(np.float32)
            name, value.name = value.name, None
            value.replace_all_uses_with(add_initializer(model.graph, name, array))
    return model


SHAPE = "s = Shape<start=1, end=2>(x)\n c = Concat<axis=0>(one, s, two)\n"


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize(
    "made",
    [SHAPE + "h = ConstantOfShape(c)", SHAPE + "h = Expand(z, c)", SHAPE + "k = Expand(z, c)\n h = Concat<axis=0>(k)"],
)
def test_a_state_of_zeros_goes_with_what_made_it(op: str, made: str) -> None:
    model = recurrent(op, made, "h", "int64[1] one = {1}, int64[1] two = {2}, float z = {0}")
    before = model.clone()
    assert_keeps_promises(model, DropZeroStates(), CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == [op]
    assert_equivalent(before, model)


@pytest.mark.parametrize("op", GATES)
def test_other_states_stay(op: str) -> None:
    model = recurrent(op, SHAPE + "h = Expand(z, c)", "h", "int64[1] one = {1}, int64[1] two = {2}, float z = {1}")
    assert not DropZeroStates().run(model, CONTEXT).changed
