from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lwc.compiler.benches import workbench
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Site
from lwc.compiler.core.progress import Silent
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Timings, prepare
from lwc.compiler.search.decide import Decider, Wanted
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.job import Change, Job, job_of
from lwc.compiler.search.numbers import Numbers


@dataclass(frozen=True)
class Case:
    """A cleaned model with all int8 choices its sites have, on one thread."""

    job: Job
    bench: Workbench
    options: dict[Site, tuple[Choice, ...]]

    @property
    def changes(self) -> list[Change]:
        return [((site, choice),) for site, choices in self.options.items() for choice in choices[1:]]


@pytest.fixture(scope="module")
def case_of() -> Callable[..., Case]:
    def build(
        model: Model, samples: Sequence[Any] | None = None, count: int = 6, precisions: Sequence[str] = ("int8",)
    ) -> Case:
        options = CompileOptions(calib=samples, samples=None if samples else 2 * count, no_cache=True)
        prepared = prepare(model, options, Timings(Silent()))
        prepared = replace(prepared, target=prepared.target.with_threads(1))
        bench = workbench(prepared)
        offered: dict[Site, tuple[Choice, ...]] = {}
        numbers = Numbers(bench, prepared.search)
        for precision in precisions:
            decider = Decider(bench, numbers, Wanted(precision))
            decider.find_sites()
            decider.calibrate()
            for site, choices in decider.offered.items():
                offered[site] = (*offered.get(site, choices[:1]), *choices[1:])
        return Case(job_of(bench, offered, numbers.ranges, count, 1_000_000_000), bench, offered)

    return build
