from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lwc.compiler.core.errors import BadInput, MissingDependency
from lwc.compiler.core.plan import Plan
from lwc.compiler.core.target import host
from lwc.compiler.prove import Candidate, _build_all


def candidate(name: str, error: Exception | None = None) -> Candidate:
    """One whose backend writes a file, or fails."""

    def build(model: object, target: object, options: Any) -> None:
        if error is not None:
            raise error
        (options.folder / "model.onnx").write_bytes(b"1234")

    backend: Any = SimpleNamespace(name="scripted", build=build)
    return Candidate(name, None, Plan(), 0.0, backend, host())  # type: ignore[arg-type]


def test_a_candidate_that_cannot_be_built_is_rejected_with_the_reason(tmp_path: Path) -> None:
    candidates = [candidate("plan", MissingDependency("no linker")), candidate("cleaned model")]
    entries, failed = _build_all(candidates, tmp_path, portable=False)
    assert [(entry.candidate.name, entry.bytes) for entry in entries] == [("cleaned model", 4)]
    assert [(one.name, one.backend, one.reason) for one in failed] == [("plan", "scripted", "no linker")]


def test_where_no_candidate_can_be_built_the_last_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="no linker"):
        _build_all([candidate("a", BadInput("x")), candidate("b", MissingDependency("no linker"))], tmp_path, False)
