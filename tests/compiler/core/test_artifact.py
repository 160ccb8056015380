import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from lwc.compiler.core.artifact import (
    Artifact,
    check_destination,
    is_artifact,
    read_report,
    replacing,
    report_json,
    seal,
    write_report,
)
from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import BadInput, ChangedArtifact, UsageError
from lwc.compiler.core.plan import Float, Plan, Site
from lwc.compiler.core.report import (
    Accuracy,
    CompileReport,
    Latency,
    LatencyPair,
    OutputFidelity,
    SiteReport,
)
from lwc.compiler.core.target import Target

TARGET = Target("host", "cpu", "x86-64")
INPUTS = (Port("x", np.dtype(np.float32), (1, "batch", 3)),)
OUTPUTS = (Port("y", np.dtype("bfloat16"), ()),)


def write(out: Path, content: bytes = b"model") -> Artifact:
    with replacing(out) as folder:
        (folder / "model.onnx").write_bytes(content)
        (folder / "plan.json").write_text(Plan({Site("conv", "Conv"): Float()}).to_json())
        seal(folder, "onnxruntime", TARGET, INPUTS, OUTPUTS)
    return Artifact.open(out)


def write_half(out: Path, error: type[BaseException]) -> None:
    with replacing(out) as folder:
        (folder / "model.onnx").write_bytes(b"half")
        raise error


def report(**changes: object) -> CompileReport:
    values: dict[str, object] = {
        "schema": 1,
        "lwc_version": "0",
        "model": {"path": "m.onnx"},
        "target": {"name": "host"},
        "backend": "onnxruntime",
        "options": {"seed": 0},
        "calibration": {"samples": 3, "held_out": 1, "source": "user", "sha256": ""},
        "latency": LatencyPair(Latency(2.0, 2.5, 10), Latency(1.0, 1.1, 20), 2.0),
        "accuracy": Accuracy("top1", 0.9, 0.89, 0.01, 0.01, True, (0.0, 0.02)),
        "fidelity": {"outputs": {"y": OutputFidelity(0.99, 30.0, 0.1)}},
        "size": {"original_bytes": 10, "compiled_bytes": 5, "ratio": 2.0},
        "memory": {"original_peak_mb": None, "compiled_peak_mb": 3.0},
        "sites": (SiteReport("conv", "Conv", "node", "int8", 0.1, None, 9, 81, "faster"),),
        "reverted": ({"site": "conv", "choice": "int8", "reason": "r"},),
        "timings_s": {"total": 1.0},
    }
    return CompileReport(**{**values, **changes})  # type: ignore[arg-type]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_is_written_can_be_opened(tmp_path: Path) -> None:
    artifact = write(tmp_path / "model.lwc")
    manifest = artifact.manifest
    assert manifest.backend == "onnxruntime"
    assert manifest.target == {"name": "host", "device": "cpu", "fingerprint": TARGET.fingerprint}
    assert (manifest.inputs, manifest.outputs) == (INPUTS, OUTPUTS)
    assert sorted(manifest.files) == ["model.onnx", "plan.json"]
    assert list(artifact.plan.choices) == [Site("conv", "Conv")]
    assert artifact.bytes == len(b"model")
    assert leftovers(tmp_path) == []


def test_an_old_artifact_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "model.lwc"
    write(out, b"old")
    (out / "stray").write_text("from before")
    assert (write(out, b"new").folder / "model.onnx").read_bytes() == b"new"
    assert not (out / "stray").exists()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_artifact_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    out = tmp_path / "model.lwc"
    write(out, b"old")
    with pytest.raises(error):
        write_half(out, error)
    assert (Artifact.open(out).folder / "model.onnx").read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_a_failing_rename_puts_the_old_artifact_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "model.lwc"
    write(out, b"old")
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if ".lwc-artifact-" in str(self):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(KeyboardInterrupt):
        write(out, b"new")
    monkeypatch.undo()
    assert (Artifact.open(out).folder / "model.onnx").read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    artifact = write(tmp_path / "model.lwc", bytes(range(50)))
    path = artifact.folder / "model.onnx"
    for position in range(50):
        content = bytearray(range(50))
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.raises(ChangedArtifact, match=r"model\.onnx"):
            Artifact.open(artifact.folder)


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    artifact = write(tmp_path / "model.lwc")
    (artifact.folder / "plan.json").unlink()
    with pytest.raises(ChangedArtifact, match=r"plan\.json"):
        Artifact.open(artifact.folder)


def test_a_file_that_was_added_does_no_harm(tmp_path: Path) -> None:
    artifact = write(tmp_path / "model.lwc")
    (artifact.folder / "notes.txt").write_text("mine")
    Artifact.open(artifact.folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema": 1}', "\xff"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    artifact = write(tmp_path / "model.lwc")
    (artifact.folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadInput):
        Artifact.open(artifact.folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret"])
def test_a_manifest_cannot_name_files_outside(tmp_path: Path, name: str) -> None:
    artifact = write(tmp_path / "model.lwc")
    path = artifact.folder / "manifest.json"
    data = json.loads(path.read_text())
    data["files"][name] = "0" * 64
    path.write_text(json.dumps(data))
    with pytest.raises(ChangedArtifact, match="outside"):
        Artifact.open(artifact.folder)


def test_a_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    assert not is_artifact(tmp_path)
    with pytest.raises(BadInput, match="not an lwc artifact"):
        Artifact.open(tmp_path)


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="other things"), replacing(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_a_file_or_a_path_without_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        check_destination(tmp_path / "file")
    with pytest.raises(UsageError, match="does not exist"):
        check_destination(tmp_path / "absent" / "model.lwc")


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is a file"):
        check_destination(tmp_path / "link")


def test_others_may_read_what_the_umask_allows(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        artifact = write(tmp_path / "model.lwc")
    finally:
        os.umask(old)
    assert artifact.folder.stat().st_mode & 0o777 == 0o755


def test_a_report_survives_the_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "model.lwc") as folder:
        write_report(folder, report())
        seal(folder, "onnxruntime", TARGET, INPUTS, OUTPUTS)
    assert Artifact.open(tmp_path / "model.lwc").report == report()


def test_infinite_numbers_become_null_and_identical_outputs_come_back() -> None:
    before = report(fidelity={"outputs": {"y": OutputFidelity(1.0, math.inf, 0.0)}})
    text = report_json(before)
    assert json.loads(text)["fidelity"]["outputs"]["y"]["sqnr_db"] is None
    assert read_report(json.loads(text)) == before


def test_a_damaged_report_is_refused(tmp_path: Path) -> None:
    with replacing(tmp_path / "model.lwc") as folder:
        (folder / "report.json").write_text('{"schema": 1}')
        seal(folder, "onnxruntime", TARGET, INPUTS, OUTPUTS)
    with pytest.raises(ChangedArtifact, match="no report"):
        _ = Artifact.open(tmp_path / "model.lwc").report


def test_a_front_survives_the_file_and_reports_without_one_are_read() -> None:
    point = {"name": "01", "ms": 1.0, "bytes": 5, "drop": 0.0, "choices": {"w4": 1}, "front": True}
    accuracy = Accuracy("top1", 0.9, 0.89, 0.01, 0.01, True, (0.0, 0.02), 64, "straddles", "kept")
    before = report(pareto=(point,), accuracy=accuracy)
    data = json.loads(report_json(before))
    assert read_report(data) == before
    for name in ("samples", "verdict", "note"):
        del data["accuracy"][name]
    del data["pareto"]
    old = read_report(data)
    assert (old.pareto, old.accuracy.verdict, old.accuracy.held) == ((), "", True)
