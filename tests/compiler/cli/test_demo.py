"""The demo, with the clock that users have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lwc.compiler.cli import run


@pytest.mark.slow
def test_the_demo_holds_its_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "-o", str(tmp_path / "digits.lwc"), "--json", "-q"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["accuracy"]["held"]
    assert printed["calibration"]["source"] == "user"
    assert printed["latency"]["speedup"] > 0.98
