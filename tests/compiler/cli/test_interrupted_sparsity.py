"""Ctrl-C in what --sparsity adds: statistics of what reads channels, layers solved in order, ranks."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lwc.compiler.cli import run
from lwc.compiler.search import factoring, in_order, pruning

pytestmark = pytest.mark.usefixtures("short_measurements")
TEXT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[1, 16] x) => (float[1, 10] logits)
<float[64, 16] w0, float[64] b0, float[64, 64] w1, float[64] b1, float[10, 64] w2, float[10] b2>
{
    [fc0] h = Gemm<transB = 1>(x, w0, b0)
    [relu] r = Relu(h)
    [fc1] k = Gemm<transB = 1>(r, w1, b1)
    [relu1] s = Relu(k)
    [fc2] logits = Gemm<transB = 1>(s, w2, b2)
}
"""
SHAPES = {"w0": (64, 16), "b0": (64,), "w1": (64, 64), "b1": (64,), "w2": (10, 64), "b2": (10,)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    proto, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    del proto.graph.initializer[:]
    for name, shape in SHAPES.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize(
    ("stage", "name", "sparsity"),
    [
        (pruning, "elimination_of", "channels:0.5"),
        (in_order, "solved_toward", "channels:0.5"),
        (pruning, "measured_savings", "auto"),
        (factoring, "spectrum_of", "auto"),
    ],
)
def test_nothing_is_left_of_a_compile_that_was_interrupted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, stage: Any, name: str, sparsity: str
) -> None:
    def interrupted(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    scratch, reached = tmp_path / "scratch", []
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(stage, name, lambda *args, **named: reached.append(name) or interrupted())
    out = tmp_path / "out.lwc"
    args = ["compile", str(model), "-o", str(out), "--sparsity", sparsity, "--precision", "fp32", "--backend", "ort"]
    assert run([*args, "--no-cache", "--json", "--quiet"]) == 130
    assert reached == [name]
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "interrupted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "scratch"]
    assert not list(scratch.iterdir())
