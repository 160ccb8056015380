"""What the tests of the compiler share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lwc import backends
from lwc.compiler import prove
from lwc.compiler.search import cost, evaluate

installed = backends.available


@pytest.fixture(scope="module", autouse=True)
def one_runtime() -> Iterator[None]:
    """Compiles are decided for the reference alone, whatever else is installed; tests of several runtimes ask for them.

    Of a whole module, so that what its tests share is made for the reference, too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "available", lambda: (backends.REFERENCE,))
        yield


@pytest.fixture(autouse=True)
def _every_runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marked test sees all that are installed."""
    if request.node.get_closest_marker("every_runtime") is not None:
        monkeypatch.setattr(backends, "available", installed)


@pytest.fixture(scope="module")
def short_measurements() -> Iterator[None]:
    """The clock is given little time: for tests of which speed is no part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "SECONDS_PER_COMPARISON", 0.3)
        patch.setattr(prove, "RACE_SECONDS", 0.1)
        patch.setattr(prove, "FINAL_SECONDS", 0.2)
        patch.setattr(cost, "PROFILED_RUNS", 3)
        yield
