import json
import math
import os
import subprocess
import sys

import pytest

from lwc.compiler.cli.screen import Column, Lines, Screen, aligned


def test_columns_are_aligned_and_nothing_is_cut() -> None:
    text = aligned((Column("name"), Column("ms", True)), [("a" * 200, "1.5"), ("b", "10.25")])
    lines = text.splitlines()
    assert lines[1].startswith("a" * 200)
    assert {len(line) for line in lines} == {200 + 2 + 5}


def test_an_empty_table_has_its_head() -> None:
    assert aligned((Column("name"), Column("ms", True)), []) == "name  ms\n"


def test_with_json_stdout_holds_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    screen.line("for people")
    screen.table((Column("a"),), [("b",)])
    screen.data({"x": math.inf})
    assert json.loads(capsys.readouterr().out) == {"x": None}


def test_brackets_in_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table((Column("name"),), [("layer[0][red]",)])
    assert "layer[0][red]" in capsys.readouterr().out


def test_progress_goes_to_stderr_and_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen().progress() as progress:
        assert isinstance(progress, Lines)
        progress.stage("Calibrating", 3)
        progress.advance()
        progress.note("odd")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Calibrating ...\nnote: odd\n")
    with Screen(quiet=True).progress() as progress:
        progress.stage("Calibrating")
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys; from lwc.compiler.cli.screen import write\n"
        "for k in range(20000): write(sys.stdout, 'x' * 100 + '\\n')\n"
        "write(sys.stderr, 'went on')"
    )
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=written, stderr=subprocess.PIPE, text=True, check=False)
    os.close(written)
    assert (done.returncode, done.stderr) == (0, "went on")
