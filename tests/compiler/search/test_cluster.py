import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lwc.compiler.core.errors import MissingDependency, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.search import cluster
from lwc.compiler.search.cluster import Cluster
from lwc.compiler.search.partial import PartialRuns
from lwc.models import structures

TRANSFORMER = Path(structures.__file__).parent / "digits_transformer.onnx"


def test_without_the_package_the_line_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependency, match=r"lwc-compiler\[cluster\]"):
        cluster.dask_distributed()


@pytest.mark.slow
def test_no_scheduler_is_a_usage_error(case_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_SECONDS_TO_CONNECT", 1)
    case = case_of(Model.open(TRANSFORMER), count=2)
    with pytest.raises(UsageError, match="No Dask scheduler"):
        list(Cluster(case.job, "tcp://127.0.0.1:9").losses(case.changes))


@pytest.mark.slow
def test_a_scheduler_without_workers_is_a_usage_error(
    case_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "_SECONDS_FOR_WORKERS", 2)
    case = case_of(Model.open(TRANSFORMER), count=2)
    local = distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=None)
    with local, pytest.raises(UsageError, match="has no workers"):
        list(Cluster(case.job, local.scheduler_address).losses(case.changes))


@pytest.mark.slow
def test_two_workers_one_killed_midway_give_the_bytes_of_one_process(case_of: Callable[..., Any]) -> None:
    distributed = pytest.importorskip("distributed")
    case = case_of(Model.open(TRANSFORMER), count=4)
    with PartialRuns(case.job) as runs:
        want = dict(runs.losses(case.changes))
    with distributed.LocalCluster(n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None) as local:
        pids = [worker.process.process.pid for worker in local.workers.values()]
        losses = Cluster(case.job, local.scheduler_address).losses(case.changes)
        got = dict([next(losses)])
        os.kill(pids[0], signal.SIGKILL)
        got.update(losses)
    assert got == want


@pytest.mark.slow
@pytest.mark.parametrize("come_back", [True, False])
def test_all_workers_killed_midway_come_back_or_end_it_with_one_sentence(
    case_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, come_back: bool
) -> None:
    distributed = pytest.importorskip("distributed")
    case = case_of(Model.open(TRANSFORMER), count=4)
    with PartialRuns(case.job) as runs:
        want = dict(runs.losses(case.changes))
    with distributed.LocalCluster(n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None) as local:
        losses = Cluster(case.job, local.scheduler_address).losses(case.changes)
        got = dict([next(losses)])
        for nanny in local.workers.values():
            if not come_back:
                nanny.close_gracefully()
            os.kill(nanny.process.process.pid, signal.SIGKILL)
        if come_back:
            got.update(losses)
            assert got == want
        else:
            monkeypatch.setattr(cluster, "_SECONDS_FOR_WORKERS", 2)
            with pytest.raises(UsageError, match=r"has no workers.*dask worker"):
                list(losses)
