"""What the tests of the compiler share."""

from __future__ import annotations

import pytest

from lwc import backends


@pytest.fixture(autouse=True)
def one_runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiles are decided for the reference alone, whatever else is installed; tests of several runtimes ask for them.

    A marked test sees all that are installed.
    """
    if request.node.get_closest_marker("every_runtime") is None:
        monkeypatch.setattr(backends, "available", lambda: (backends.REFERENCE,))
