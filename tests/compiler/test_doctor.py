import importlib.metadata
from pathlib import Path

import pytest

from lwc import backends
from lwc.compiler.doctor import Check, doctor

pytestmark = pytest.mark.every_runtime


def checks() -> dict[str, Check]:
    return {check.name: check for check in doctor()}


def test_a_backend_that_runs_is_ok() -> None:
    assert checks()["backend onnxruntime"].state == "ok"


def test_a_missing_backend_comes_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = backends.Entry("lwc.backends.absent:Absent", "a_package_nobody_has", "cpu")
    monkeypatch.setitem(backends.TABLE, "absent", entry)
    check = checks()["backend absent"]
    assert check.state == "missing"
    assert "pip install 'lwc-compiler[cpu]'" in check.hint


def test_a_backend_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = backends.Entry("lwc.backends.absent:Absent", "onnxruntime", "cpu")
    monkeypatch.setitem(backends.TABLE, "absent", entry)
    assert checks()["backend absent"].state == "broken"


def test_a_missing_optional_package_says_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    check = checks()["netron"]
    assert (check.state, "lwc view" in check.detail) == ("missing", True)
    assert "lwc-compiler[view]" in check.hint


def test_a_cache_folder_is_named_before_it_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))
    assert checks()["cache"] == Check("cache", "ok", str(tmp_path / "not" / "there" / "lwc"))
