"""Exit codes, errors and JSON of the command, in this process."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import onnx
import pytest

from lwc import backends
from lwc.compiler.cli import app
from lwc.compiler.core.errors import (
    BadInput,
    BudgetNotHeld,
    InternalError,
    LwcError,
    MissingDependency,
    UsageError,
)
from lwc.compiler.core.model import Model
from lwc.models import tiny


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A command `lwc fail` that raises what the test gives."""

    def install(error: BaseException) -> None:
        @click.command("fail")
        @click.option("--json", is_flag=True)
        @click.option("-v", is_flag=True)
        def fail(json: bool, v: bool) -> None:
            raise error

        monkeypatch.setitem(app.lwc.commands, "fail", fail)

    return install


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InternalError("m."), 1),
        (RuntimeError("m"), 1),
        (UsageError("m."), 2),
        (click.UsageError("m"), 2),
        (BadInput("m."), 3),
        (FileNotFoundError(errno.ENOENT, "No such file", "model.onnx"), 3),
        (OSError(errno.ENOSPC, "No space left", "model.lwc"), 3),
        (OSError("m"), 1),
        (BudgetNotHeld("m."), 4),
        (MissingDependency("m."), 5),
        (KeyboardInterrupt(), 130),
    ],
    ids=repr,
)
def test_every_error_has_its_exit_code_and_one_line(
    failing: Any, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    failing(error)
    assert app.run(["fail"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip().count("\n") == (0 if code != 130 else err.strip().count("\n"))
    assert err.strip().splitlines()[-1].startswith("lwc: ")
    assert "Traceback" not in err


def test_an_error_is_json_too_when_asked(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    failing(BadInput("The model is odd.", "Repair it."))
    assert app.run(["fail", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"code": "bad_input", "message": "The model is odd.", "hint": "Repair it."}}
    assert err == "lwc: The model is odd. Repair it.\n"


@pytest.mark.parametrize("error", [RuntimeError("boom"), InternalError("boom.")], ids=repr)
def test_the_traceback_of_a_bug_stays_behind_v(
    failing: Any, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    failing(error)
    app.run(["fail"])
    quiet = capsys.readouterr().err
    app.run(["fail", "-v"])
    loud = capsys.readouterr().err
    assert "Traceback" not in quiet
    assert "issue tracker" in quiet
    assert "Traceback" in loud


def test_errors_on_purpose_have_no_traceback_even_with_v(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    failing(BadInput("odd."))
    app.run(["fail", "-v"])
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["compile"],
        ["compile", "m.onnx", "--speed"],
        ["compile", "m.onnx", "--max-drop", "much"],
        ["compile", "m.onnx", "--precision", "int7"],
        ["compile", "m.onnx", "--shape", "x"],
        ["compile", "m.onnx", "--recipe", "absent.toml"],
        ["verify", "a.onnx"],
        ["bench"],
        ["run", "a.lwc", "--input", "x.npz"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_in_one_sentence(capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    assert app.run(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lwc: ")
    assert err.count("\n") == 1


def test_wrong_usage_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["compile", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_a_backend_that_is_not_there_is_a_missing_dependency(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backends.TABLE, "tvm", backends.Entry("no_such_module:X", "no_such_module", "tvm"))
    Model(tiny.all_graphs()["conv"](), "m").save(tmp_path / "m.onnx")
    assert app.run(["compile", str(tmp_path / "m.onnx"), "--backend", "tvm", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "missing_dependency"


@pytest.mark.parametrize("command", ["compile", "inspect", "analyze", "bench"])
def test_a_file_that_is_no_model_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a protobuf \xff\xff\xff")
    assert app.run([command, str(path), "-q"]) == 3
    assert "m.onnx" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["compile", "inspect", "analyze", "bench", "report", "view"])
def test_a_path_that_is_not_there_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert app.run([command, str(tmp_path / "absent"), "-q"]) == 3
    err = capsys.readouterr().err
    assert "absent" in err
    assert err.count("\n") == 1


def test_an_unknown_opset_is_bad_input(tmp_path: Path) -> None:
    port = onnx.helper.make_tensor_value_info("x", 1, [1])
    out = onnx.helper.make_tensor_value_info("y", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [port], [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 999)])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert app.run(["compile", str(tmp_path / "m.onnx")]) == 3
    assert not (tmp_path / "m.lwc").exists()


def test_version_and_help_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    import lwc

    assert app.run(["--version"]) == 0
    assert lwc.__version__ in capsys.readouterr().out
    for command in (None, *app.COMMANDS):
        assert app.run([command, "--help"] if command else ["--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([]) == 2
    assert "compile" in capsys.readouterr().err


def test_every_command_of_the_contract_is_there_and_explains_itself() -> None:
    expected = {"compile", "inspect", "analyze", "verify", "bench", "run"}
    expected |= {"passes", "targets", "doctor", "report", "view"}
    assert expected <= set(app.COMMANDS)
    context = click.Context(app.lwc)
    for name, (_, summary) in app.COMMANDS.items():
        command = app.lwc.get_command(context, name)
        assert command is not None
        assert (command.help or "").startswith(summary.rstrip("."))


def test_the_help_needs_no_model_code() -> None:
    code = "import sys; from lwc.compiler.cli import run; run(['--help']); print({'onnx_ir'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_every_error_class_has_an_exit_code_of_the_contract() -> None:
    def family(kind: type[LwcError]) -> set[type[LwcError]]:
        return {kind}.union(*(family(child) for child in kind.__subclasses__()))

    assert {kind.exit_code for kind in family(LwcError)} <= {1, 2, 3, 4, 5, 130}
