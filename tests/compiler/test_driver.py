"""End to end on a trained model with true labels. The clock is given little time: speed is not what is tested."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lwc
from lwc import backends
from lwc.compiler import prove
from lwc.compiler.core.errors import BadPlan, BudgetNotHeld, UsageError
from lwc.compiler.core.plan import Plan
from lwc.compiler.options import CompileOptions
from lwc.compiler.search import evaluate
from lwc.models import digits

pytestmark = pytest.mark.usefixtures("short_measurements")


@contextmanager
def any_clock() -> Iterator[None]:
    """A clock on which every integer site saves the same, instead of that of a busy machine."""

    def ratio(bench: evaluate.Workbench, plan: Plan, reference: Plan) -> float:
        return float(0.9 ** (len(plan.choices) - len(reference.choices)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.Workbench, "ratio", ratio)
        patch.setattr(prove, "LEAST_SPEEDUP_OF_PLAN", 0.0)
        patch.setattr(prove, "race", lambda sessions, feeds: [0.0] * len(sessions))
        yield


@pytest.fixture
def any_speed() -> Iterator[None]:
    with any_clock():
        yield


@pytest.fixture(scope="module")
def samples() -> list[dict[str, np.ndarray]]:
    return list(digits.samples("test"))[:64]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, samples: Any, short_measurements: None) -> lwc.Artifact:
    """The trained model, with its cache beside it."""
    with any_clock():
        return compile_cnn(tmp_path_factory.mktemp("compiled") / "out.lwc", samples)


def compile_cnn(out: Path, samples: Any, **options: Any) -> lwc.Artifact:
    options = {"metric": "top1", "backend": "ort", "cache": out.parent / "cache", **options}
    return lwc.compile(digits.path("cnn"), out, calib=samples, **options)


def integer_sites(artifact: lwc.Artifact) -> list[str]:
    return [site.name for site in artifact.report.sites if site.choice != "float"]


def test_compiles_a_trained_model_within_its_budget(compiled: lwc.Artifact) -> None:
    report = compiled.report
    assert report.accuracy.held
    assert report.accuracy.drop <= 0.01
    assert integer_sites(compiled)
    assert report.size["ratio"] > 2
    assert report.calibration["source"] == "user"
    session = lwc.load(compiled.folder)
    right = [np.argmax(session.run(s)["logits"]) == s["label"] for s in digits.samples("test")]
    assert np.mean(right) > 0.98


@pytest.mark.usefixtures("any_speed")
def test_the_cache_makes_a_second_compile_the_same_to_the_byte(
    compiled: lwc.Artifact, tmp_path: Path, samples: Any
) -> None:
    second = compile_cnn(tmp_path / "b.lwc", samples, cache=compiled.folder.parent / "cache")
    for name in ("model.onnx", "plan.json"):
        assert (compiled.folder / name).read_bytes() == (second.folder / name).read_bytes()


@pytest.mark.usefixtures("any_speed")
def test_a_plan_can_be_replayed_without_search(compiled: lwc.Artifact, tmp_path: Path, samples: Any) -> None:
    replayed = compile_cnn(tmp_path / "b.lwc", samples, plan=compiled.folder / "plan.json", no_cache=True)
    assert (compiled.folder / "model.onnx").read_bytes() == (replayed.folder / "model.onnx").read_bytes()
    assert replayed.report.timings_s["sensitivity"] == replayed.report.timings_s["search"] == 0.0


def test_a_plan_of_another_model_is_refused_by_name(tmp_path: Path, samples: Any) -> None:
    plan = {"schema": 1, "choices": [{"site": {"name": "ghost", "op": "Conv", "kind": "weight"}, "choice": "int8"}]}
    (tmp_path / "plan.json").write_text(json.dumps({**plan, "ranges": {}}))
    with pytest.raises(BadPlan, match="'ghost'"):
        compile_cnn(tmp_path / "out.lwc", samples, plan=tmp_path / "plan.json")
    assert not (tmp_path / "out.lwc").exists()


@pytest.mark.usefixtures("any_speed")
def test_no_allowed_drop_reverts_what_hurts(tmp_path: Path, samples: Any) -> None:
    artifact = compile_cnn(tmp_path / "out.lwc", samples, metric="cosine", max_drop=1e-9)
    assert artifact.report.accuracy.held
    assert not integer_sites(artifact)


def test_a_latency_no_model_can_reach_writes_nothing_and_exits_with_4(tmp_path: Path, samples: Any) -> None:
    with pytest.raises(BudgetNotHeld, match="ms are allowed") as caught:
        compile_cnn(tmp_path / "out.lwc", samples, max_latency=1e-6, precision="fp32")
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "cache"])


def test_a_format_that_no_runtime_executes_is_refused_and_the_others_are_named(tmp_path: Path, samples: Any) -> None:
    with pytest.raises(UsageError, match=r"fp8 is not executed by onnxruntime") as caught:
        compile_cnn(tmp_path / "out.lwc", samples, precision="fp8", backend="ort")
    assert caught.value.hint == "What is: fp32, int8, int8-dynamic, w8, w4."


@pytest.mark.slow
def test_a_size_within_reach_is_reached_where_the_fastest_is_larger(tmp_path: Path, samples: Any) -> None:
    smallest = compile_cnn(tmp_path / "small.lwc", samples, objective="size").report.size["compiled_bytes"]
    report = compile_cnn(tmp_path / "out.lwc", samples, max_size=1.02 * smallest / 1e6).report
    assert report.size["compiled_bytes"] <= 1.02 * smallest
    assert report.accuracy.held


@pytest.mark.slow
def test_a_time_within_reach_is_reached_where_the_smallest_takes_longer(
    tmp_path: Path, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def excess(options: CompileOptions, median_ms: float, size_bytes: float) -> str:
        return "The smallest is too slow." if size_bytes <= 1.02 * smallest else ""

    smallest = compile_cnn(tmp_path / "small.lwc", samples, objective="size").report.size["compiled_bytes"]
    monkeypatch.setattr(CompileOptions, "excess", excess)
    report = compile_cnn(tmp_path / "out.lwc", samples, objective="size", max_latency=1000).report
    assert 1.02 * smallest < report.size["compiled_bytes"] < report.size["original_bytes"]


def test_best_effort_writes_what_was_found_over_budget(tmp_path: Path, samples: Any) -> None:
    artifact = compile_cnn(tmp_path / "out.lwc", samples, max_latency=1e-6, precision="fp32", best_effort=True)
    assert artifact.report.latency.compiled.median_ms > 1e-6


def test_tuning_is_refused_where_no_runtime_has_kernels(tmp_path: Path, samples: Any) -> None:
    with pytest.raises(UsageError, match="kernels to tune"):
        compile_cnn(tmp_path / "out.lwc", samples, backend="ort", tune=1.0)


def test_a_float_result_never_changes_an_answer(tmp_path: Path, samples: Any) -> None:
    report = compile_cnn(tmp_path / "out.lwc", samples, precision="fp32").report
    assert report.fidelity["outputs"]["logits"].sqnr_db > 90
    stages = {"load", "canonicalize", "calibrate", "cost", "sensitivity", "search", "build", "tune", "verify", "total"}
    assert set(report.timings_s) == stages
    assert report.accuracy.drop == 0


@pytest.mark.usefixtures("any_speed")
def test_size_is_minimised_when_it_is_the_objective(tmp_path: Path, samples: Any) -> None:
    artifact = compile_cnn(tmp_path / "out.lwc", samples, objective="size")
    assert artifact.report.size["ratio"] > 2.5
    assert artifact.report.accuracy.held


def test_an_interrupted_compile_leaves_the_old_artifact_whole(
    tmp_path: Path, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = compile_cnn(tmp_path / "out.lwc", samples, precision="fp32")
    kept = {path.name: path.read_bytes() for path in old.folder.iterdir()}

    def interrupt(*args: object) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr("lwc.compiler.driver.write_artifact", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compile_cnn(tmp_path / "out.lwc", samples, precision="fp32")
    assert {path.name: path.read_bytes() for path in old.folder.iterdir()} == kept
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "out.lwc"}


def test_without_samples_the_report_says_synthetic(tmp_path: Path) -> None:
    options = {"samples": 8, "precision": "fp32", "no_cache": True, "backend": "ort"}
    artifact = lwc.compile(digits.path("gru"), tmp_path / "out.lwc", **options)
    assert artifact.report.calibration["source"] == "synthetic"
    assert artifact.report.calibration["samples"] == artifact.report.calibration["held_out"] == 4


@pytest.mark.usefixtures("any_speed")
def test_the_front_is_written_as_artifacts_inside_the_artifact(tmp_path: Path, samples: Any) -> None:
    artifact = compile_cnn(tmp_path / "out.lwc", samples, pareto=True)
    points = [point for point in artifact.report.pareto if point["front"]]
    assert points
    for point in points:
        inner = lwc.Artifact.open(artifact.folder / point["artifact"])
        assert inner.report.accuracy.metric == "top1"
        assert lwc.load(inner.folder).run(samples[0])
        assert inner.bytes == point["bytes"]
    assert artifact.bytes == artifact.report.size["compiled_bytes"]
    lwc.Artifact.open(artifact.folder)  # its manifest holds the front's files, too


@pytest.mark.every_runtime
@pytest.mark.usefixtures("any_speed")
def test_every_installed_runtime_is_decided_for_and_named_in_the_report(tmp_path: Path, samples: Any) -> None:
    pytest.importorskip("openvino")
    artifact = compile_cnn(tmp_path / "out.lwc", samples, backend="auto")
    assert {line["name"] for line in artifact.report.backends} == set(backends.available())
    assert artifact.report.accuracy.held


@pytest.mark.usefixtures("any_speed")
def test_processes_find_the_plan_of_one(tmp_path: Path, samples: Any) -> None:
    one, two = (
        compile_cnn(tmp_path / f"{workers}.lwc", samples, workers=workers, cache=tmp_path / f"cache{workers}")
        for workers in (1, 2)
    )
    losses = [{site.name: site.predicted_loss for site in artifact.report.sites} for artifact in (one, two)]
    assert losses[0] == losses[1]


@pytest.mark.usefixtures("any_speed")
@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_weight_that_holds_no_numbers_is_left_alone_and_named(tmp_path: Path, samples: Any, number: float) -> None:
    model = onnx.load(digits.path("cnn"))
    broken = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weight = onnx.numpy_helper.to_array(broken).copy()
    weight[0, 0, 0, 0] = number
    broken.CopyFrom(onnx.numpy_helper.from_array(weight, broken.name))
    onnx.save(model, tmp_path / "broken.onnx")
    options = {"calib": samples, "backend": "ort", "no_cache": True}
    report = lwc.compile(tmp_path / "broken.onnx", tmp_path / "out.lwc", **options).report
    (line,) = report.skipped
    assert "stays float" in line["reason"]
    assert line["site"] not in {site.name for site in report.sites if site.choice != "float"}
