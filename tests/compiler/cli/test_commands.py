"""The commands on real models, as a user and a pipeline would call them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lwc
from lwc.compiler.cli import run
from lwc.compiler.cli.compile import write_npz

TEXT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[N, 16] x) => (float[N, 10] logits)
<float[32, 16] w0, float[32] b0, float[10, 32] w1, float[10] b1>
{
    [fc0] h = Gemm<transB = 1>(x, w0, b0)
    [relu] r = Relu(h)
    [fc1] logits = Gemm<transB = 1>(r, w1, b1)
}
"""
SHAPES = {"w0": (32, 16), "b0": (32,), "w1": (10, 32), "b1": (10,)}
COMMAND = [sys.executable, "-m", "lwc"]

pytestmark = pytest.mark.usefixtures("short_measurements")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(TEXT)
    del proto.graph.initializer[:]
    for name, shape in SHAPES.items():
        array = rng.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def samples(model: Path) -> Path:
    rng = np.random.default_rng(1)
    path = model.parent / "samples.npz"
    np.savez(path, x=rng.normal(size=(16, 16)).astype(np.float32), label=rng.integers(0, 10, 16))
    return path


@pytest.fixture(scope="module")
def artifact(model: Path, samples: Path, short_measurements: None) -> Path:
    out = model.parent / "net.lwc"
    args = ["-o", str(out), "--calib", str(samples), "--backend", "ort", "--no-cache", "-q"]
    assert run(["compile", str(model), *args]) == 0
    return out


def json_of(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> Any:
    assert run([*args, "--json", "-q"]) == code
    return json.loads(capsys.readouterr().out)


def test_compile_writes_all_that_the_contract_names(artifact: Path) -> None:
    names = {path.name for path in artifact.iterdir()}
    assert names == {"manifest.json", "model.onnx", "plan.json", "report.json", "report.html"}
    assert (artifact.parent.stat().st_mode & 0o777) != 0
    assert [path.name for path in artifact.parent.iterdir() if path.name.startswith(".")] == []


def test_compile_prints_the_report_it_wrote(
    model: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = json_of(capsys, "compile", str(model), "-o", str(tmp_path / "out"), "--calib", str(samples), "--no-cache")
    assert printed == json.loads((tmp_path / "out" / "report.json").read_text())
    assert printed["calibration"]["source"] == "user"
    assert printed["options"]["no_cache"] is True


def test_compile_says_in_words_what_it_did(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", str(model), "-o", str(tmp_path / "out"), "--samples", "8", "--no-cache"]) == 0
    out, err = capsys.readouterr()
    for word in ("latency", "accuracy", "size", "synthetic", "report.html", str(tmp_path / "out")):
        assert word in out
    assert "..." in err


def test_the_artifact_lies_beside_the_model_by_default(model: Path, samples: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())
    assert run(["compile", str(copy), "--calib", str(samples), "--no-cache", "-q"]) == 0
    assert (tmp_path / "copy.lwc" / "manifest.json").exists()


def test_a_plan_is_applied_again(
    model: Path, samples: Path, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = artifact / "plan.json"
    args = ("-o", str(tmp_path / "out"), "--calib", str(samples), "--plan", str(plan), "--no-cache")
    json_of(capsys, "compile", str(model), *args)
    assert (tmp_path / "out" / "plan.json").read_text() == plan.read_text()


def test_a_recipe_gives_options(model: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'calib = "{samples}"\nprecision = "fp32"\nno-cache = true\nmax-drop = 0.2\n')
    args = ("--recipe", str(recipe), "-o", str(tmp_path / "out"), "--max-drop", "0.3")
    options = json_of(capsys, "compile", str(model), *args)["options"]
    assert (options["precision"], options["no_cache"], options["max_drop"]) == ("fp32", True, 0.3)


@pytest.mark.parametrize("budget", [("--max-latency", "0.000001"), ("--max-size", "0.000001")], ids=" ".join)
def test_a_budget_that_cannot_be_held_writes_nothing(
    model: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], budget: tuple[str, str]
) -> None:
    args = ("-o", str(tmp_path / "out"), "--calib", str(samples), "--no-cache", *budget)
    assert json_of(capsys, "compile", str(model), *args, code=4)["error"]["code"] == "budget"
    assert list(tmp_path.iterdir()) == []


def test_the_best_effort_is_written_and_says_so(
    model: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["-o", str(out), "--calib", str(samples), "--no-cache", "--max-latency", "0.000001", "--best-effort"]
    assert run(["compile", str(model), *args, "--precision", "fp32", "--json", "-q"]) == 4
    printed, err = capsys.readouterr()
    assert json.loads(printed) == json.loads((out / "report.json").read_text())
    assert "ms are allowed" in err


def test_an_old_artifact_survives_a_failure(artifact: Path, model: Path, samples: Path) -> None:
    before = (artifact / "manifest.json").read_bytes()
    args = ["-o", str(artifact), "--calib", str(samples), "--max-size", "0.000001", "--precision", "fp32", "--no-cache"]
    assert run(["compile", str(model), *args, "-q"]) == 4
    assert (artifact / "manifest.json").read_bytes() == before


def test_a_folder_with_other_things_is_refused_before_any_work(model: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    assert run(["compile", str(model), "-o", str(tmp_path), "-q"]) == 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((4, 7), np.float32)}, "x"),
        ({"z": np.zeros((4, 16), np.float32)}, "x"),
        ({"x": np.full((4, 16), np.nan, np.float32)}, "x"),
    ],
    ids=["shape", "name", "NaN"],
)
def test_samples_that_do_not_fit_are_bad_input(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arrays: Any, words: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    args = ("-o", str(tmp_path / "out"), "--calib", str(tmp_path / "bad.npz"))
    error = json_of(capsys, "compile", str(model), *args, code=3)["error"]
    assert error["code"] == "calibration"
    assert words in error["message"]


def test_run_gives_what_load_gives(artifact: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(2).normal(size=(3, 16)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    args = ["--input", str(tmp_path / "in.npz"), "--output", str(tmp_path / "out.npz"), "-q"]
    assert run(["run", str(artifact), *args]) == 0
    with np.load(tmp_path / "out.npz") as written:
        np.testing.assert_array_equal(written["logits"], lwc.load(artifact).run({"x": x})["logits"])


def test_run_refuses_what_is_no_archive(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "in.npz").write_bytes(b"nothing")
    args = ["--output", str(tmp_path / "out.npz"), "-q"]
    assert run(["run", str(artifact), "--input", str(tmp_path / "in.npz"), *args]) == 3
    assert run(["run", str(artifact), "--input", str(tmp_path / "absent.npz"), *args]) == 2


def test_any_output_name_can_be_written(tmp_path: Path) -> None:
    arrays = {"file": np.ones(2), "a/b:0": np.arange(3)}
    write_npz(tmp_path / "out.npz", arrays)
    with np.load(tmp_path / "out.npz") as written:
        assert {name: written[name].tolist() for name in written.files} == {"file": [1, 1], "a/b:0": [0, 1, 2]}


def test_strings_and_foreign_types_can_be_written(tmp_path: Path) -> None:
    half = np.arange(3).astype("bfloat16")
    write_npz(tmp_path / "out.npz", {"text": np.array(["a", "bc"], dtype=object), "half": half})
    with np.load(tmp_path / "out.npz") as written:
        assert written["text"].tolist() == ["a", "bc"]
        assert written["half"].view("bfloat16").tolist() == [0, 1, 2]


def test_an_output_that_is_no_array_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(lwc.LwcError, match="'boxes'"):
        write_npz(tmp_path / "out.npz", {"boxes": [np.ones(1)]})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def test_verify_as_json_names_outputs_and_layers(
    model: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json_of(capsys, "verify", str(model), str(model), "--calib", str(samples))
    assert found["outputs"]["logits"]["max_abs"] == 0.0
    assert [layer["node"] for layer in found["layers"]] == ["fc0", "relu", "fc1"]
    assert found["parted"] is None


def test_a_changed_artifact_is_refused_everywhere(artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.lwc"
    shutil.copytree(artifact, copy)
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(lwc.LwcError, match=r"model\.onnx"):
        lwc.load(copy)
    for command in ("inspect", "report", "bench"):
        assert run([command, str(copy), "-q"]) == 3


def test_inspect_shows_the_choices_of_an_artifact(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = json_of(capsys, "inspect", str(artifact), "--no-profile")["layers"]
    chosen = {
        entry["site"]["name"]: entry["choice"] for entry in json.loads((artifact / "plan.json").read_text())["choices"]
    }
    assert {layer["name"]: layer["choice"] for layer in layers if layer["choice"]} == chosen


def test_inspect_of_a_model_is_a_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(model), "-q"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[:4]] == ["layer", "fc0", "relu", "fc1"]
    assert "874 parameters" in out


def test_verify_finds_no_difference_between_a_model_and_itself(
    model: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(model), str(model), "--calib", str(samples), "--bisect", "-q"]) == 0
    assert "do not part" in capsys.readouterr().out


def test_verify_bisects_to_the_layer_that_breaks(
    model: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.load(model)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    weights["w1"].CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights["w1"]), "w1"))
    onnx.save(proto, tmp_path / "broken.onnx")
    args = ["verify", str(model), str(tmp_path / "broken.onnx"), "--calib", str(samples), "--bisect", "-q"]
    assert run(args) == 0
    assert "'fc1'" in capsys.readouterr().out


def test_bench_measures_model_and_artifact_side_by_side(
    model: Path, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json_of(capsys, "bench", str(model), str(artifact), "--seconds", "0.1")["rows"]
    assert [row["path"] for row in rows] == [str(model), str(artifact)]


def test_analyze_lists_every_choice_of_every_site(
    model: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = json_of(capsys, "analyze", str(model), "--calib", str(samples), "--no-cache")["sites"]
    assert {(line["site"], line["choice"]) for line in lines} >= {("fc0", "float"), ("fc1", "float")}
    assert {"site", "op", "choice", "ms", "loss"} <= set(lines[0])


@pytest.mark.parametrize("command", ["passes", "targets", "doctor"])
def test_what_there_is_can_be_listed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    (lines,) = json_of(capsys, command).values()
    assert lines
    assert run([command]) == 0
    assert all(line["name"] in capsys.readouterr().out for line in lines[:1])


def test_report_says_where_the_page_is(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(artifact), "--no-browser"]) == 0
    assert capsys.readouterr().out.strip() == str(artifact / "report.html")


def test_view_without_netron_tells_how_to_get_it(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "netron", None)
    assert run(["view", str(model)]) == 5
    assert "lwc-compiler[view]" in capsys.readouterr().err


def test_view_shows_the_model_inside_an_artifact(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    fake = types.ModuleType("netron")
    monkeypatch.setattr(fake, "start", lambda path, browse: (shown.append(path), ("localhost", 8080))[1], raising=False)
    monkeypatch.setattr(fake, "wait", lambda: None, raising=False)
    monkeypatch.setitem(sys.modules, "netron", fake)
    assert run(["view", str(artifact)]) == 0
    assert shown == [str(artifact / "model.onnx")]
    assert "localhost:8080" in capsys.readouterr().out


WAITING = """
import pathlib, time
def calibration():
    pathlib.Path("started").touch()
    time.sleep(60)
    yield {}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX signals")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_compile_leaves_nothing(model: Path, tmp_path: Path, signum: signal.Signals, code: int) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    args = ["compile", str(model), "-o", "out", "--calib", "waiting:calibration", "--backend", "ort", "--json", "-q"]
    with subprocess.Popen(
        [*COMMAND, *args], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(600):
            if (tmp_path / "started").exists():
                break
            time.sleep(0.1)
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    if signum == signal.SIGINT:
        assert json.loads(out)["error"]["code"] == "interrupted"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("__pycache__",)) == [
        "started",
        "waiting.py",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX pipes")
def test_a_closed_pipe_is_no_error(model: Path) -> None:
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "inspect", str(model), "--no-profile"],
        stdout=written,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(written)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_exit_code_reaches_the_shell(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "compile", str(tmp_path / "absent.onnx"), "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["message"]


def test_python_takes_models_from_memory_and_functions_as_metrics(model: Path, tmp_path: Path) -> None:
    def first_value(outputs: Any, sample: Any) -> float:
        return float(outputs["logits"].shape[-1])

    calib = [{"x": np.random.default_rng(k).normal(size=(1, 16)).astype(np.float32)} for k in range(8)]
    artifact = lwc.compile(onnx.load(model), out=tmp_path / "out", calib=calib, metric=first_value, no_cache=True)
    assert artifact.folder == tmp_path / "out"
    assert artifact.report.accuracy.original == 10.0
    assert artifact.report.latency.speedup > 0
    assert lwc.load(tmp_path / "out").run(calib[0])["logits"].shape == (1, 10)
