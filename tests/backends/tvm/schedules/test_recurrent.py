from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm")

import tvm

from lwc.backends.tvm.machine import KIB, Machine
from lwc.backends.tvm.pipeline import CODE_CONFIG
from lwc.backends.tvm.schedules import scheduled
from lwc.backends.tvm.schedules.recurrence import Plan, Recurrence
from lwc.backends.tvm.schedules.recurrent import kernel
from lwc.backends.tvm.schedules.vector_math import vector_math
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, X86

WIDE = Machine(X86, "skylake-avx512", (), 64, 32, 32 * KIB, 1024 * KIB, 2)
SIGMOID, TANH = ("sigmoid", 0.0, 0.0), ("tanh", 0.0, 0.0)
LSTM = Recurrence("LSTM", 3, 6, 64, (False, True), ((SIGMOID, TANH, TANH),) * 2, lengths="int32", peepholes=True)
GRU = Recurrence("GRU", 3, 6, 64, (False, True), ((SIGMOID, TANH),) * 2)
LOOPS = {
    "lstm": LSTM,
    "codes": replace(LSTM, quantized=True, lengths="", peepholes=False),
    "gru": GRU,
    "reset last": replace(GRU, linear_before_reset=True),
}


def results(loop: Recurrence, func: Any) -> list[np.ndarray]:
    """What a kernel gives for some inputs, the same ones for every kernel of this loop."""
    rng = np.random.default_rng(0)
    made = {name: 0.5 * rng.standard_normal(shape) for name, (shape, _) in loop.arguments().items()}
    made["lengths"] = np.array([3, 1, 0, 2, 3, 1])
    if loop.quantized:
        made["recur"] = np.round(made["recur"] * 100)
        made["factor"] = np.full_like(made["factor"], 0.01)
    given = [tvm.runtime.tensor(made[name].astype(kind)) for name, (_, kind) in loop.arguments().items()]
    out = [tvm.runtime.tensor(np.full(shape, np.nan, kind)) for shape, kind in loop.results().values()]
    target = tvm.target.Target(NARROW.llvm())
    with target, tvm.transform.PassContext(opt_level=3, config=CODE_CONFIG):
        main = vector_math(func.with_attr("global_symbol", "main"))
        tvm.compile(tvm.IRModule({"main": main}), target)["main"](*given, *out)
    return [tensor.numpy() for tensor in out]


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize(
    "plan", [Plan(rows=4, wide=2), Plan(rows=2, wide=4, spread=True), Plan(rows=3, parts=2)], ids=str
)
def test_plans_agree(name: str, plan: Plan) -> None:
    loop = LOOPS[name]
    if loop.quantized and plan.parts > 1:
        pytest.skip("Rows are quantized together.")
    for want, got in zip(results(loop, kernel(loop, Plan())), results(loop, kernel(loop, plan)), strict=True):
        np.testing.assert_allclose(got, want, atol=FP32_SUMS)


def test_scheduling_chooses_a_plan_and_computes_the_same() -> None:
    bare = kernel(LSTM, Plan())
    chosen = scheduled(bare.with_attr("global_symbol", "main"), WIDE)
    assert str(chosen.body) != str(bare.body)
    for want, got in zip(results(LSTM, bare), results(LSTM, chosen), strict=True):
        np.testing.assert_allclose(got, want, atol=FP32_SUMS)


def test_sums_fit_the_registers() -> None:
    plan = Plan.of(replace(GRU, batch=40), WIDE)
    assert plan.rows > 1
    assert (plan.rows + 1) * plan.wide * 3 + 1 <= WIDE.registers


def test_one_row_is_summed_where_the_registers_do_not_hold_its_gates() -> None:
    plan = Plan.of(replace(GRU, batch=40), NARROW)
    assert (plan.rows, plan.wide) == (1, 1)


def test_one_sequence_has_enough_sums_in_flight() -> None:
    assert Plan.of(replace(LSTM, batch=1), WIDE).wide == 2


def test_blocks_of_a_step_are_spread_where_one_direction_would_leave_cores_idle() -> None:
    alone = replace(GRU, reverse=(False,), functions=GRU.functions[:1], batch=1, hidden=512)
    assert Plan.of(alone, WIDE).spread
    assert not Plan.of(replace(alone, hidden=64), WIDE).spread
    assert not Plan.of(replace(GRU, batch=1, hidden=512), WIDE).spread


def test_parts_of_the_batch_walk_on_their_own_but_for_codes() -> None:
    alone = replace(LSTM, reverse=(False,), functions=LSTM.functions[:1])
    assert Plan.of(alone, WIDE).parts == 2
    assert Plan.of(replace(alone, quantized=True), WIDE).parts == 1


def test_a_recurrence_is_what_its_text_says() -> None:
    assert Recurrence.parse(LSTM.text()) == LSTM
