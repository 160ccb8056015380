from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm import bundle as bundling
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.toolchain import Toolchain, find_toolchain
from lwc.compiler.core.errors import InternalError, MissingDependency
from lwc.compiler.core.target import NAMED, host

ARM = Machine.of(NAMED["cpu:aarch64"]).triple
HERE = Machine.of(host()).triple


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without compilers; programs put into the folder are found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return tmp_path


def program(folder: Path, name: str, script: str = "") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("target", "package"), [(ARM, "g++-aarch64-linux-gnu"), (HERE, "g++")])
def test_without_a_compiler_the_next_step_is_said(bare: Path, target: str, package: str) -> None:
    with pytest.raises(MissingDependency) as raised:
        find_toolchain(target)
    assert f"apt-get install {package}, or pip install 'lwc-compiler[cross]'" in raised.value.hint


def test_the_cross_compiler_of_the_target_is_taken(bare: Path) -> None:
    program(bare, "g++")
    program(bare, f"{ARM}-g++")
    assert Path(find_toolchain(ARM).command[0]).name == f"{ARM}-g++"


def test_the_users_compiler_comes_first_on_this_machine(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("c++", "mine"):
        program(bare, name)
    assert Path(find_toolchain(HERE).command[0]).name == "c++"
    monkeypatch.setenv("CXX", "mine -m64")
    toolchain = find_toolchain(HERE)
    assert (Path(toolchain.command[0]).name, toolchain.command[1:]) == ("mine", ("-m64",))


def test_zig_stands_in_for_all_compilers(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))
    assert find_toolchain(ARM).command[1:] == ("-m", "ziglang", "c++", "-target", f"{ARM}.2.28")


def test_what_a_failing_compiler_says_is_passed_on(bare: Path) -> None:
    program(bare, "broken", "echo no such option >&2; exit 1")
    with pytest.raises(InternalError, match=r"broken for .* failed: no such option"):
        Toolchain((str(bare / "broken"),), ARM).run([])


def test_wheels_that_cannot_be_had_are_named(bare: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(bare, f"{ARM}-g++")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(MissingDependency, match="apache-tvm"):
        bundling.bundle(tmp_path, ARM)
    assert not (tmp_path / bundling.FOLDER).exists()
    assert list((tmp_path / "cache" / "lwc").iterdir()) == []
