"""The front: plans of which none is better in time, size and accuracy at once, each measured end to end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from lwc.compiler.core.plan import Choice, Plan, Range, Site
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.ledger import Objective
from lwc.compiler.search.solve import solve
from lwc.compiler.search.space import Space, plan_of

STEPS = 8  # loss budgets tried per objective
RUINED = 0.3  # loss above which no budget is worth trying
RESOLUTION = 5e-4  # of the drop: a twentieth of the default budget
CLOCK_NOISE = 0.015  # of the time: what two measurements of equally fast plans differ by


@dataclass(frozen=True)
class Point:
    """One plan, measured on the search samples.

    ms: of one run;  speedup: over the cleaned model in float;  bytes: of the files that the runtime needs
    drop: of the metric, from float;  noise: relative squared error of the outputs
    name: set by its place in the front;  artifact: where it was written, if it was
    """

    plan: Plan
    ms: float
    speedup: float
    bytes: int
    drop: float
    noise: float
    name: str = ""
    artifact: str = ""

    @property
    def kinds(self) -> dict[str, int]:
        """How many sites have each choice, float ones left out."""
        return dict(sorted(Counter(choice.name for choice in self.plan.choices.values()).items()))

    def to_dict(self) -> dict[str, Any]:
        """What report.json holds of it; the plan itself lies in the artifact."""
        return {
            "name": self.name,
            "ms": self.ms,
            "speedup": self.speedup,
            "bytes": self.bytes,
            "drop": self.drop,
            "noise": self.noise,
            "choices": self.kinds,
            "artifact": self.artifact,
        }


@dataclass(frozen=True)
class Front:
    """points: the plans no other beats, fastest first;  beaten: those measured and left out."""

    points: tuple[Point, ...]
    beaten: tuple[Point, ...] = ()

    @staticmethod
    def of(measured: Iterable[Point], resolution: float = RESOLUTION) -> Front:
        """Sort points into those on the front and those beaten, and name the former by their place.

        resolution: drops are told apart in steps of it; one below zero is luck, and counts as none
        """

        def worse(point: Point) -> int:
            return int(max(0.0, point.drop) / resolution)

        kept: list[Point] = []
        beaten: list[Point] = []
        for point in sorted(measured, key=lambda p: (worse(p), p.bytes, p.ms, p.noise)):
            rivals = (other for other in kept if worse(other) <= worse(point))
            (beaten if any(_beats(other, point) for other in rivals) else kept).append(point)
        kept.sort(key=lambda p: (p.ms, p.bytes, p.drop))
        named = (replace(point, name=f"{place:02d}") for place, point in enumerate(kept, 1))
        return Front(tuple(named), tuple(sorted(beaten, key=lambda p: (p.ms, p.bytes, p.drop))))

    def to_list(self) -> list[dict[str, Any]]:
        """Points as plain JSON values, 'front' telling the two kinds apart: what CompileReport.pareto holds."""
        sides = ((self.points, True), (self.beaten, False))
        return [{**point.to_dict(), "front": front} for points, front in sides for point in points]

    def to_json(self) -> str:
        return json.dumps({"schema": 1, "points": self.to_list()}, indent=1) + "\n"


def find_front(
    bench: Workbench,
    space: Space,
    ranges: Mapping[str, Range],
    float_ms: float,
    file_bytes: Callable[[Plan], int],
    steps: int = STEPS,
    resolution: float = RESOLUTION,
    each: Callable[[], None] = lambda: None,
) -> Front:
    """Solve for falling loss budgets under both objectives, measure every plan, drop what another beats.

    float_ms: measured time of the cleaned model in float;  resolution: of the drop, see Front.of
    file_bytes: what the runtime needs of a plan on disk;  plans that it cannot run are left out
    each: called after every measured plan
    """
    points = []
    for plan in candidate_plans(space, ranges, steps):
        if not bench.refusal(plan):
            points.append(measure(bench, plan, float_ms, file_bytes(plan)))
        each()
    return Front.of(points, resolution)


def candidate_plans(space: Space, ranges: Mapping[str, Range], steps: int = STEPS) -> list[Plan]:
    """Float, and for time and for size the best plan of each loss budget; no plan twice."""
    plans = [Plan()]
    for objective in ("latency", "size"):
        plans.extend(plan_of(choices, ranges) for choices in sweep(space, objective, steps))
    return list({plan.digest(): plan for plan in plans}.values())


def sweep(space: Space, objective: Objective, steps: int = STEPS) -> list[dict[Site, Choice]]:
    """The best choices whatever they lose, then for falling loss budgets, evenly in their logarithm.

    From the loss of the boldest plan, or where outputs are ruined anyway, to what a quarter of the sites must lose.
    """
    boldest = solve(space, inf, objective)
    least = sorted(min((o.loss for o in options if o.loss > 0.0), default=inf) for options in space.options.values())
    low = sum(least[: max(1, len(least) // 4)])
    high = min(RUINED, space.predicted_loss(boldest))
    if high <= low:
        return [boldest]
    return [boldest, *(solve(space, float(budget), objective) for budget in np.geomspace(high, low, steps))]


def measure(bench: Workbench, plan: Plan, float_ms: float, file_bytes: int) -> Point:
    """One point: side by side with float on the clock, and over all search samples."""
    ratio = bench.ratio(plan, Plan())
    return Point(
        plan,
        ms=ratio * float_ms,
        speedup=1.0 / ratio,
        bytes=file_bytes,
        drop=bench.value(Plan()) - bench.value(plan),
        noise=bench.noise(plan, len(bench.samples)),
    )


def _beats(one: Point, other: Point) -> bool:
    """Whether one is as small, and as fast as far as the clock can tell."""
    return one.bytes <= other.bytes and one.ms <= other.ms * (1.0 + CLOCK_NOISE)
