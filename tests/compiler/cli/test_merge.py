"""lwc merge, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lwc.compiler.cli.app import run


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two models of y = x w, and one with another w."""
    found = []
    for k, width in enumerate((20, 20, 7)):
        proto = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 30] x) => (float[N, M] y) { y = MatMul(x, w) }'
        )
        array = np.full((30, width), k, np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, "w"))
        found.append(str(tmp_path / f"m{k}.onnx"))
        onnx.save(proto, found[-1])
    return found


def test_writes_the_model_and_shows_what_matched(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    assert run(["merge", *files[:2], "--weights", "1,3", "-o", str(out)]) == 0
    assert (numpy_helper.to_array(onnx.load(out).graph.initializer[0]) == 0.75).all()
    said = capsys.readouterr().out
    assert "30x20" in said
    assert "1 parameters of 2 models merged by linear" in said


def test_json_is_alone_on_stdout(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["merge", files[1], "--base", files[0], "--method", "dare", "--density", "0.5", "--rescale", "none"]
    assert run([*command, "-o", str(tmp_path / "out.onnx"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["lines"] == [
        {"name": "w", "shape": [30, 20], "role": "weight", "method": "dare", "names": ["w", "w"]}
    ]
    assert (report["base"], report["models"]) == ("m0", ["m1"])


def test_lists_what_does_not_match_and_ends_with_3(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["merge", files[0], files[2], "-o", str(tmp_path / "out.onnx")]) == 3
    said = capsys.readouterr()
    assert "30x7" in said.out
    assert "30x20" in said.out
    assert "different architectures" in said.err
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("options", [["--method", "magic"], ["--weights", "a,b"], ["--density", "2"]])
def test_what_cannot_be_read_ends_with_2(files: list[str], tmp_path: Path, options: list[str]) -> None:
    assert run(["merge", *files[:2], *options, "-o", str(tmp_path / "out.onnx")]) == 2
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("flags", [["--shrink", "0.5"], ["--in-order"]])
def test_samples_of_each_model_are_looked_at(
    files: list[str], tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    calib, out = [], tmp_path / "out.onnx"
    for k, scale in enumerate((1.0, 3.0)):
        path = tmp_path / f"calib{k}.npz"
        np.savez(path, x=np.random.default_rng(k).normal(0.0, scale, (200, 30)).astype(np.float32))
        calib += ["--calib", str(path)]
    assert run(["merge", *files[:2], "--method", "regmean", *calib, *flags, "-o", str(out)]) == 0
    merged = numpy_helper.to_array(onnx.load(out).graph.initializer[0])
    np.testing.assert_allclose(merged.mean(), 0.9, atol=0.03)  # 0 and 1, by powers of 1 and 9
    assert "1 weights were solved" in capsys.readouterr().out


def test_a_soup_without_labels_ends_with_2(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "calib.npz", x=np.ones((4, 30), np.float32))
    command = ["merge", *files[:2], "--method", "soup", "--calib", str(tmp_path / "calib.npz")]
    assert run([*command, "-o", str(tmp_path / "out.onnx")]) == 2
    assert "the samples have no labels. " in " ".join(capsys.readouterr().err.split()) + " "
