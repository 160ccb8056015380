"""What runs in turns with TVM leaves the cores to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("tvm")

from lwc import backends
from lwc.backends.onnxruntime import build as on_ort
from lwc.backends.tvm import cut as cutting
from lwc.backends.tvm.build import Tvm
from lwc.backends.tvm.hybrid import Hybrid
from lwc.compiler.core.backend import BuildOptions
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host

HERE = host()
SLEEPS = "session.force_spinning_stop"
OPEN = "agraph (float[n,2] x) => (float[n,2] y) { y = Sin (x) }"
MIXED = """agraph (float[2,4] x) => (float[2,4] y, int64[2,k] where) {
    where = NonZero (x)
    n = Size (where)
    f = Cast <to = 1> (n)
    y = Add (x, f)
}"""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows by one for each session of ONNX Runtime: whether its threads sleep between runs."""
    found: list[bool] = []
    create = on_ort.create

    def watched(model: Any, options: Any, name: str) -> Any:
        found.append(_told(options))
        return create(model, options, name)

    monkeypatch.setattr(on_ort, "create", watched)
    return found


def _told(options: Any) -> bool:
    try:
        return bool(options.get_session_config_entry(SLEEPS) == "1")
    except RuntimeError:  # it has no such entry
        return False


def read(text: str) -> Model:
    return Model.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}'))


def test_alone_onnx_runtime_waits_as_it_does_by_itself(opened: list[bool]) -> None:
    backends.get(backends.REFERENCE).session(read(OPEN), HERE)
    assert opened == [False]


def test_other_shapes_run_where_threads_sleep_between_runs(opened: list[bool], tmp_path: Path) -> None:
    Tvm().build(read(OPEN), HERE, BuildOptions(tmp_path, shapes=[{"x": (1, 2)}]))
    for session in (Tvm().load(tmp_path, HERE), Tvm().session(read(OPEN), HERE)):
        for rows in (1, 2):
            x = np.ones((rows, 2), np.float32)
            np.testing.assert_allclose(session.run({"x": x})["y"], np.sin(x), rtol=1e-6)
    assert opened == [True, True]


def test_parts_run_where_threads_sleep_between_runs(
    opened: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "LEAST_WORK_US", 0.0)
    monkeypatch.setattr("lwc.backends.tvm.hybrid.slower", lambda model, target: "")
    Hybrid().build(read(MIXED), HERE, BuildOptions(tmp_path))
    opened.clear()
    Hybrid().load(tmp_path, HERE)
    assert opened
    assert all(opened)


def test_where_tvm_runs_nothing_there_are_no_turns(
    opened: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lwc.backends.tvm.hybrid.slower", lambda model, target: "slow")
    Hybrid().build(read(MIXED), HERE, BuildOptions(tmp_path))
    opened.clear()
    Hybrid().load(tmp_path, HERE)
    assert opened == [False]
