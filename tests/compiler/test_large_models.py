"""What is done for models that fill the memory, done to a small one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lwc
from lwc.backends.onnxruntime import build
from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.compiler import prove
from lwc.compiler.core import external, mapped
from lwc.compiler.core.model import Model
from lwc.compiler.search import cost, evaluate, partial, row_grams
from lwc.models.structures import decoder


class Counted:
    """A session that counts how many of its kind are open."""

    open = most = 0

    def __init__(self, session: Any) -> None:
        self._session = session
        Counted.open += 1
        Counted.most = max(Counted.most, Counted.open)

    def __del__(self) -> None:
        Counted.open -= 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture
def all_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (prove, evaluate, partial):
        monkeypatch.setattr(module, "OPEN_BYTES", 0)
    monkeypatch.setattr(prove, "FINAL_SECONDS", 0.1)
    monkeypatch.setattr(cost, "PROFILED_RUNS", 2)
    monkeypatch.setattr(row_grams, "MULTIPLY_ADDS", 0)
    monkeypatch.setattr(build, "LARGE_BYTES", 0)
    monkeypatch.setattr(external, "_MANY_BYTES", 0)
    monkeypatch.setattr(external, "LARGE_BYTES", 1 << 10)
    monkeypatch.setattr(mapped, "IN_FILE_BYTES", 1 << 10)


def test_no_two_sessions_of_the_whole_model_are_open_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_is_large: None
) -> None:
    path = decoder(tmp_path / "decoder.onnx", layers=2, width=64, heads=2, vocab=200, tokens=8)
    session, load = OnnxRuntime.session, OnnxRuntime.load
    whole = Model.open(path).weight_bytes() // 2

    def counted(self: OnnxRuntime, model: Any, *rest: Any, **options: Any) -> Any:
        found = session(self, model, *rest, **options)
        return Counted(found) if model.weight_bytes() > whole else found

    monkeypatch.setattr(OnnxRuntime, "session", counted)
    monkeypatch.setattr(OnnxRuntime, "load", lambda self, *rest: Counted(load(self, *rest)))
    artifact = lwc.compile(
        path, tmp_path / "out.lwc", backend="ort", precision="w4", objective="size", max_drop=1.0, samples=4,
        no_cache=True,
    )  # fmt: skip
    assert Counted.most == 1
    assert artifact.report.size["ratio"] > 4
    assert sorted(name for name in artifact.manifest.files if "model" in name) == ["model.onnx", "model.onnx.data"]
    tokens = np.arange(8, dtype=np.int64)[None]
    assert lwc.load(artifact.folder).run({"tokens": tokens})["logits"].shape == (1, 8, 200)

