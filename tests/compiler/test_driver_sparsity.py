"""--sparsity end to end on a trained model. The clock is given little time: speed is not what is tested."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lwc
from lwc.compiler import prove
from lwc.compiler.core.errors import BudgetNotHeld
from lwc.compiler.core.plan import Plan, Pruned
from lwc.compiler.core.report import SiteReport
from lwc.compiler.search import evaluate
from lwc.models import digits

pytestmark = pytest.mark.usefixtures("short_measurements")
FLOAT_PARAMETERS = 186_000  # of the model, about


@pytest.fixture(scope="module", autouse=True)
def a_clock_of_choices() -> Any:
    """A clock on which all that leaves saves something, instead of that of a busy machine."""

    def ratio(bench: evaluate.Workbench, plan: Plan, reference: Plan) -> float:
        removed = [sum(len(choice.removed) for _, choice in each.sites(Pruned)) for each in (plan, reference)]
        return float(0.999 ** (removed[0] - removed[1]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.Workbench, "ratio", ratio)
        patch.setattr(prove, "LEAST_SPEEDUP_OF_PLAN", 0.0)
        patch.setattr(prove, "race", lambda entries, feeds: [float(entry.bytes) for entry in entries])
        yield


@pytest.fixture(scope="module")
def samples() -> list[dict[str, np.ndarray]]:
    return list(digits.samples("test"))[:100]


def compiled(out: Path, samples: Any, sparsity: str, **options: Any) -> lwc.Artifact:
    options = {"metric": "top1", "backend": "ort", "precision": "fp32", "no_cache": True, **options}
    return lwc.compile(digits.path("cnn"), out, calib=samples, sparsity=sparsity, **options)


def groups(artifact: lwc.Artifact) -> list[SiteReport]:
    return [site for site in artifact.report.sites if site.kind == "channels"]


def weights(artifact: lwc.Artifact) -> list[np.ndarray]:
    graph = onnx.load(artifact.folder / "model.onnx").graph
    return [array for each in graph.initializer if (array := numpy_helper.to_array(each)).ndim == 4]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory, samples: Any, short_measurements: None) -> lwc.Artifact:
    return compiled(tmp_path_factory.mktemp("auto") / "out.lwc", samples, "auto", max_drop=0.02)


def test_channels_leave_within_the_budget(pruned: lwc.Artifact) -> None:
    assert pruned.report.accuracy.held
    assert pruned.report.accuracy.drop <= 0.02
    left = [site for site in groups(pruned) if site.choice != "whole"]
    assert left
    assert all(site.choice.startswith("pruned ") and site.parameters > 0 < site.macs for site in left)
    assert all(site.predicted_ms is not None and site.predicted_ms < 0.0 for site in left)
    assert sum(array.size for array in weights(pruned)) < FLOAT_PARAMETERS - sum(site.parameters for site in left) / 2
    session = lwc.load(pruned.folder)
    right = [np.argmax(session.run(sample)["logits"]) == sample["label"] for sample in digits.samples("test")]
    assert np.mean(right) > 0.95


def test_a_plan_with_groups_is_replayed_to_the_byte(pruned: lwc.Artifact, tmp_path: Path, samples: Any) -> None:
    again = compiled(tmp_path / "again.lwc", samples, "none", max_drop=0.02, plan=pruned.folder / "plan.json")
    assert (pruned.folder / "model.onnx").read_bytes() == (again.folder / "model.onnx").read_bytes()
    assert {site.reason for site in groups(again)} == {"the plan says so"}


@pytest.mark.slow
def test_no_allowed_loss_leaves_the_model_whole(tmp_path: Path, samples: Any) -> None:
    artifact = compiled(tmp_path / "out.lwc", samples[:40], "auto", metric="cosine", max_drop=1e-9)
    assert artifact.report.accuracy.held
    assert all(site.choice == "whole" for site in groups(artifact))


def test_the_asked_share_leaves_every_group_whatever_it_loses(tmp_path: Path, samples: Any) -> None:
    with pytest.raises(BudgetNotHeld, match="top1 falls") as caught:
        compiled(tmp_path / "no.lwc", samples[:40], "channels:0.7")
    assert caught.value.exit_code == 4
    assert not (tmp_path / "no.lwc").exists()
    artifact = compiled(tmp_path / "yes.lwc", samples[:40], "channels:0.7", best_effort=True)
    assert [site.choice.split()[1:] for site in groups(artifact)] == [
        ["32", "of", "48"], ["32", "of", "48"], ["32", "of", "48"], ["48", "of", "64"], ["48", "of", "64"],
        ["96", "of", "128"], ["64", "of", "96"],
    ]  # fmt: skip
    assert {site.reason for site in groups(artifact)} == {"asked for"}
    assert artifact.report.accuracy.drop > 0.01


@pytest.mark.slow
def test_a_mask_is_put_on_every_weight_and_said_to_gain_nothing(tmp_path: Path, samples: Any) -> None:
    artifact = compiled(tmp_path / "out.lwc", samples[:40], "2:4", max_drop=1.0)
    masked = [site for site in artifact.report.sites if site.kind == "mask"]
    assert len(masked) == 15
    assert all("no speed-up on this target" in site.reason for site in masked)
    assert {site.choice for site in masked} == {"masked 2:4"}
    zeros = [np.mean(array == 0.0) for array in weights(artifact) if array.shape[1] % 4 == 0]
    assert zeros
    assert min(zeros) >= 0.5
