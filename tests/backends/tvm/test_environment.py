"""What the process is told before TVM is imported."""

from __future__ import annotations

import os
import sys

import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.environment import LOOKS, LOOKS_VARIABLE, THREADS_VARIABLE, prepare, usable_cores

VARIABLES = (THREADS_VARIABLE, LOOKS_VARIABLE)


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_all_cores_and_a_few_looks_for_work_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tvm")
    prepare()
    assert [os.environ[name] for name in VARIABLES] == [str(usable_cores()), str(LOOKS)]


def test_what_the_user_has_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tvm")
    for name in VARIABLES:
        monkeypatch.setenv(name, "7")
    prepare()
    assert [os.environ[name] for name in VARIABLES] == ["7", "7"]


def test_nothing_is_set_where_it_is_too_late() -> None:
    prepare()
    assert not set(VARIABLES) & set(os.environ)
