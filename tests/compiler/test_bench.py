import sys
from pathlib import Path

import onnx
import pytest

from lwc.compiler.bench import bench
from lwc.compiler.core.errors import BadInput


def save(path: Path, input_name: str = "x") -> Path:
    text = f"""
    <ir_version: 8, opset_import: ["": 17]>
    net (float[N, 4] {input_name}) => (float[N, 4] y) {{ [relu] y = Relu({input_name}) }}
    """
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def test_every_model_is_measured_in_the_order_asked_for(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.onnx"), save(tmp_path / "b.onnx")]
    found = bench(paths, seconds=0.1)
    assert [row.path for row in found.rows] == [str(path) for path in paths]
    assert found.rows[0].speedup == 1.0
    assert all(row.latency.n > 0 and row.latency.median_ms > 0 for row in found.rows)
    assert [row.bytes for row in found.rows] == [path.stat().st_size for path in paths]
    assert found.source == "synthetic"


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is not known there")
def test_memory_is_that_of_a_process_of_its_own(tmp_path: Path) -> None:
    ballast = bytearray(300_000_000)
    peak = bench([save(tmp_path / "a.onnx")], seconds=0.1).rows[0].peak_mb
    assert peak is not None
    assert 10 < peak < len(ballast) / 1e6


def test_models_with_other_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="do not take the same inputs"):
        bench([save(tmp_path / "a.onnx"), save(tmp_path / "b.onnx", "z")])
