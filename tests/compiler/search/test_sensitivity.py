from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lwc.compiler.core.cache import Cache
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Float, Plan
from lwc.compiler.search.job import Change
from lwc.compiler.search.partial import PartialRuns
from lwc.compiler.search.sensitivity import losses_of, measured_losses
from lwc.models import structures

CNN = Path(structures.__file__).parent / "digits_cnn.onnx"


class Stops:
    """Measures so many changes, then is killed."""

    def __init__(self, job: Any, most: int) -> None:
        self.runs = PartialRuns(job)
        self.most = most
        self.asked = 0

    def losses(self, changes: Sequence[Change]) -> Iterator[tuple[Change, float]]:
        self.asked += len(changes)
        for k, found in enumerate(self.runs.losses(changes)):
            if k == self.most:
                raise KeyboardInterrupt
            yield found


@pytest.fixture
def case(case_of: Callable[..., Any], tmp_path: Path) -> Any:
    case = case_of(Model.open(CNN), count=4)
    return replace(case, bench=replace(case.bench, cache=Cache(tmp_path)))


def test_every_site_and_choice_has_a_loss_and_float_has_none(case: Any) -> None:
    losses = measured_losses(case.bench, case.options, case.job.ranges, 4, lambda: None)
    assert list(losses) == [(site, choice) for site, choices in case.options.items() for choice in choices]
    assert all((loss == 0.0) == isinstance(choice, Float) for (_, choice), loss in losses.items())


def test_losses_are_the_noise_that_the_bench_measures(case: Any) -> None:
    losses = measured_losses(case.bench, case.options, case.job.ranges, 4, lambda: None)
    for change in case.changes:
        want = case.bench.noise(Plan(dict(change), case.job.ranges), 4)
        assert losses[change[0]] == pytest.approx(want, rel=1e-2, abs=1e-9)


def test_what_was_measured_before_a_kill_is_not_measured_again(case: Any) -> None:
    first = Stops(case.job, 2)
    with pytest.raises(KeyboardInterrupt):
        losses_of(case.bench, case.options, case.job.ranges, 4, case.changes, evaluator=first)
    told: list[None] = []
    second = Stops(case.job, 99)
    found = losses_of(
        case.bench, case.options, case.job.ranges, 4, case.changes, lambda: told.append(None), evaluator=second
    )
    assert second.asked == len(case.changes) - 2
    assert len(told) == len(case.changes)
    with PartialRuns(case.job) as runs:
        assert found == dict(runs.losses(case.changes))


def test_other_ranges_or_samples_are_measured_anew(case: Any) -> None:
    some = case.changes[:1]
    losses_of(case.bench, case.options, case.job.ranges, 4, some)
    again = Stops(case.job, 99)
    losses_of(case.bench, case.options, case.job.ranges, 3, some, evaluator=again)
    losses_of(case.bench, case.options, {}, 4, some, evaluator=again)
    assert again.asked == 2
