from collections.abc import Mapping

import pytest

from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan, Pruned, Site, StaticInt8
from lwc.compiler.search.group_costs import measured_savings
from lwc.compiler.testing import parse

A, B = (Site(name, "Conv", "channels") for name in ("a", "b"))
HALF, QUARTER = Pruned((0,)), Pruned((0, 1))
LAYER = Site("b", "Conv", "weight")
WHOLE = {"a": 4.0, "b": 8.0, "c": 2.0}
TEXT = """<ir_version: 10, opset_import: ["": 21]> g (float[1] x) => (float[1] y) { y = Relu(x) }"""


class Bench:
    """Times by node of plans, and how fast the machine was when they were profiled."""

    def __init__(self, times: Mapping[int, Mapping[str, float]], slow: float = 1.0, fails: bool = False) -> None:
        self.model, self.times, self.slow, self.fails = Model(parse(TEXT), "m"), times, slow, fails
        self.seen: list[Plan] = []

    def profile(self, plan: Plan, runs: int) -> dict[str, float] | None:
        self.seen.append(plan)
        removed = self._removed(plan)
        if removed and self.fails:
            return None
        return {name: ms * (self.slow if removed else 1.0) for name, ms in self.times[removed].items()}

    def ratio(self, plan: Plan, base: Plan) -> float:
        return sum(self.times[self._removed(plan)].values()) / sum(self.times[0].values())

    @staticmethod
    def _removed(plan: Plan) -> int:
        return max((len(choice.removed) for _, choice in plan.sites(Pruned)), default=0)


TOUCHED = {A: frozenset({"a", "b"}), B: frozenset({"b", "c"})}
TIMES = {0: WHOLE, 1: {"a": 2.0, "b": 2.0, "c": 1.0}}


@pytest.mark.parametrize("slow", [1.0, 1.7])
def test_what_a_node_saves_is_shared_and_the_drift_of_the_machine_is_taken_out(slow: float) -> None:
    bench = Bench(TIMES, slow)
    found = measured_savings(bench, Plan({LAYER: StaticInt8()}), [{A: HALF, B: HALF}], TOUCHED)  # type: ignore[arg-type]
    assert found == pytest.approx({(A, HALF): 2.0 + 3.0, (B, HALF): 3.0 + 1.0})
    assert all(plan.choices[LAYER] == StaticInt8() for plan in bench.seen)


def test_a_node_that_one_group_touches_alone_is_its_own() -> None:
    found = measured_savings(Bench(TIMES), Plan(), [{A: HALF}], TOUCHED)  # type: ignore[arg-type]
    assert found == pytest.approx({(A, HALF): 2.0 + 6.0})


def test_choices_of_several_rungs_get_the_mean() -> None:
    bench = Bench({**TIMES, 2: {"a": 1.0, "b": 1.0, "c": 1.0}})
    rungs = [{A: HALF, B: HALF}, {A: QUARTER, B: HALF}]
    found = measured_savings(bench, Plan(), rungs, TOUCHED)  # type: ignore[arg-type]
    assert found[A, QUARTER] == pytest.approx(3.0 + 3.5)
    assert found[B, HALF] == pytest.approx((4.0 + (3.5 + 1.0)) / 2)


def test_rungs_that_cannot_run_are_left_out() -> None:
    assert not measured_savings(Bench(TIMES, fails=True), Plan(), [{A: HALF}], TOUCHED)  # type: ignore[arg-type]
