import os
import signal
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.search import workers
from lwc.compiler.search.job import Change
from lwc.compiler.search.partial import PartialRuns
from lwc.compiler.search.workers import Processes, read_job, tasks_of, write_job
from lwc.models import structures

TRANSFORMER = Path(structures.__file__).parent / "digits_transformer.onnx"


@pytest.fixture
def case(case_of: Callable[..., Any]) -> Any:
    return case_of(Model.open(TRANSFORMER), count=4)


def test_two_processes_give_the_bytes_of_one(case: Any) -> None:
    with PartialRuns(case.job) as runs:
        want = dict(runs.losses(case.changes))
    assert dict(Processes(case.job, 2).losses(case.changes)) == want
    assert not active_children()


def test_a_written_job_measures_the_same(case: Any, tmp_path: Path) -> None:
    write_job(case.job, tmp_path)
    change = case.changes[3]
    assert PartialRuns(read_job(tmp_path)).loss(change) == PartialRuns(case.job).loss(change)


def test_a_segment_is_handed_out_whole_and_in_the_order_of_the_graph(case: Any) -> None:
    tasks = tasks_of(case.job, case.changes[::-1])
    runs = PartialRuns(case.job)
    segments = [{runs.segment_of(change) for change in task} for task in tasks]
    assert segments == [{k} for k in range(len(segments))]
    assert {change for task in tasks for change in task} == set(case.changes)


def test_what_a_process_that_dies_leaves_undone_is_done_by_others(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PartialRuns(case.job) as runs:
        want = dict(runs.losses(case.changes))
    deaths = []
    real = workers._measured_until_death

    def first_dies(folder: Path, tasks: Any, count: int) -> Any:
        for k, found in enumerate(real(folder, tasks, count)):
            yield found
            if not deaths and k == 1:
                deaths.append(active_children()[0].pid)
                os.kill(deaths[0], signal.SIGKILL)

    monkeypatch.setattr(workers, "_measured_until_death", first_dies)
    assert dict(Processes(case.job, 2).losses(case.changes)) == want
    assert deaths


def test_gives_up_when_processes_die_again_and_again(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_measured_until_death", lambda folder, tasks, count: iter(()))
    with pytest.raises(LwcError, match="died 3 times"):
        list(Processes(case.job, 2).losses(case.changes))


def test_leaving_early_ends_the_processes(case: Any) -> None:
    losses = Processes(case.job, 2).losses(case.changes)
    next(losses)
    assert active_children()
    losses.close()  # type: ignore[attr-defined]
    assert not active_children()


def test_nothing_asked_starts_nothing(case: Any) -> None:
    none: list[Change] = []
    assert list(Processes(case.job, 2).losses(none)) == []
