import math
from types import SimpleNamespace
from typing import Any

from lwc.compiler.assemble import backend_lines
from lwc.compiler.core.plan import Float, Plan, Site, StaticInt8, Weight4
from lwc.compiler.driver import lost_choices
from lwc.compiler.elsewhere import boldest, located, untimed
from lwc.compiler.prove import Rejected
from lwc.compiler.search.revert import Revert
from lwc.compiler.search.space import Option, Space

PRODUCT, TABLE = Site("product", "MatMul", "weight"), Site("table", "Gather", "weight")
SOLVED = Weight4(rounding="gptq")
SPACE = Space({
    PRODUCT: (Option(Float(), 2.0, 40, 0.0), Option(StaticInt8(), 1.0, 10, 0.1), Option(SOLVED, 3.0, 5, 0.2)),
    TABLE: (Option(Float(), 1.0, 40, 0.0), Option(SOLVED, 1.0, 5, 0.3)),
})  # fmt: skip
NUMBERS: Any = SimpleNamespace(ranges={})
ALL = ("float", "int8", "w4")
TVM: Any = SimpleNamespace(name="tvm")


def chosen(precision: str, executed: tuple[str, ...] = ALL, *, decided: bool = False) -> dict[Site, Any]:
    return dict(boldest(SPACE, executed, precision, NUMBERS, decided=decided).choices)


def test_the_asked_format_is_tried_where_it_makes_kernels_faster() -> None:
    assert chosen("w4", decided=True) == {PRODUCT: SOLVED}


def test_int8_is_tried_where_nothing_was_asked_for_or_decided() -> None:
    assert chosen("auto") == {PRODUCT: StaticInt8()}
    assert chosen("auto", decided=True) == {}


def test_a_format_that_the_runtime_lacks_is_not_tried() -> None:
    assert chosen("w4", ("float", "int8")) == {}


def test_what_is_listed_has_the_known_form_and_loss_and_no_time() -> None:
    listed = untimed({PRODUCT: (Float(), Weight4()), TABLE: (Float(), StaticInt8())}, SPACE, ("float", "w4"))
    assert [option.choice for option in listed.options[PRODUCT]] == [Float(), SOLVED]
    assert listed.option(PRODUCT, SOLVED).loss == 0.2
    assert math.isnan(listed.option(PRODUCT, SOLVED).ms)
    assert math.isnan(listed.option(TABLE, StaticInt8()).loss)


def test_a_reason_says_where_it_was_found() -> None:
    (found,) = located([Revert(PRODUCT, SOLVED, "slow")], "onnxruntime")
    assert found.reason == "on onnxruntime: slow"


def candidate(name: str, plan: Plan) -> Any:
    return SimpleNamespace(name=name, backend=TVM, plan=plan)


def proof(*rejected: Rejected) -> Any:
    kept, lost = candidate("cleaned model", Plan()), candidate("plan", Plan({PRODUCT: SOLVED}))
    return SimpleNamespace(
        kept=kept, times=[(lost, 4.0), (kept, 3.0)], rejected=rejected, raced={"tvm": 3.0}, reach="",
        latency=SimpleNamespace(compiled=SimpleNamespace(median_ms=3.0)),
    )  # fmt: skip


def decision(plan: Plan) -> Any:
    return SimpleNamespace(plan=plan, whole=plan, prepared=SimpleNamespace(backend=TVM))


def test_a_plan_that_lost_the_race_is_named_with_both_times() -> None:
    decisions = [decision(Plan({PRODUCT: SOLVED})), decision(Plan())]
    (lost,) = lost_choices(decisions, proof())
    assert (lost.site, lost.choice) == (PRODUCT, SOLVED)
    assert lost.reason == "the whole plan takes 4.000 ms, the cleaned model 3.000 ms"
    (line,) = backend_lines(proof(), {})
    assert line["reason"] == "kept: cleaned model; plan (1 w4): 4.000 ms"


def test_a_plan_that_the_proof_rejected_has_its_reason() -> None:
    plan = Plan({PRODUCT: SOLVED})
    rejected = Rejected("plan", "tvm", "too noisy", plan)
    (lost,) = lost_choices([decision(plan)], proof(rejected))
    assert lost.reason == "the whole plan: too noisy"
    (line,) = backend_lines(proof(rejected), {})
    assert line["reason"] == "kept: cleaned model; plan (1 w4): too noisy"
