import sys
from pathlib import Path

import numpy as np
import pytest

from lwc.compiler.core.errors import MissingDependency, UsageError
from lwc.models import architectures


def test_names_are_distinct_and_many() -> None:
    assert len(set(architectures.names())) == len(architectures.ARCHITECTURES) >= 60


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="no architecture named 'nothing'"):
        architectures.get("nothing")


def test_feeds_repeat_and_differ_by_seed() -> None:
    first, again, other = (architectures.get("bert").feeds(seed) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["input_ids"], other["input_ids"])
    assert first["attention_mask"].min(axis=1).tolist() == [1, 0]


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise architectures.PackageNotFoundError(name)

    monkeypatch.setattr(architectures, "version", version)
    with pytest.raises(MissingDependency, match="torch"):
        architectures.path("bert", tmp_path)


def test_a_file_that_is_there_is_not_exported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "version", lambda name: "1.0+cpu")
    monkeypatch.setattr(sys, "executable", "/nowhere")
    kept = tmp_path / f"torch1.0-transformers1.0+cpu-r{architectures.REVISION}" / "bert.onnx"
    kept.parent.mkdir()
    kept.touch()
    assert architectures.path("bert", tmp_path) == kept
