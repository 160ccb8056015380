"""Roundings chosen by the layer objective, on a trained model."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx_ir as ir
import pytest

from lwc import backends
from lwc.compiler.analysis.activations import collect
from lwc.compiler.analysis.sites import choices_at, find_sites
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Plan, Site, Weight4
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.target import NAMED
from lwc.compiler.data import Calibration
from lwc.compiler.prepare import clean_model
from lwc.compiler.search import rounding
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.relative_error import relative_error
from lwc.compiler.search.rounding import choose_roundings, confirmed, needs_gram, sites_to_solve
from lwc.models import digits

TARGET = NAMED["cpu:x86-64-v4"].with_threads(1)


def test_four_bits_lose_less_with_the_roundings_that_the_layers_chose() -> None:
    backend = backends.get("onnxruntime")
    model, _ = clean_model(Model.open(digits.path("transformer")), TARGET)
    session = backend.session(model, TARGET)
    calibration = Calibration.open(list(digits.samples("test"))[:96], session.inputs)
    offered = {
        site: tuple(c for c in choices_at(model, site, TARGET) if isinstance(c, Weight4))
        for site in find_sites(model, TARGET)
    }
    offered = {site: choices for site, choices in offered.items() if choices}
    nodes = {node.name or "": node for node in model.graph}
    sources = sites_to_solve(offered, nodes)
    assert sources
    apply = Applier(TARGET)
    apply.stats.update(
        collect(
            model,
            tuple(sources),
            calibration,
            lambda m, names: backend.session(m, TARGET, names),
            gram=True,
            values=frozenset(sources.values()),
        )
    )
    chosen = choose_roundings(offered, nodes, apply.stats, apply.solved)
    assert any(needs_gram(choice) for choices in chosen.values() for choice in choices)

    def noise(choices: dict) -> float:  # type: ignore[type-arg]
        solved = backend.session(apply(model, Plan({site: found[0] for site, found in choices.items()})), TARGET)
        unseen = list(digits.samples("test"))[96:192]
        errors = [relative_error(session.run(sample), solved.run(sample)) for sample in unseen]
        return sum(errors) / len(errors)

    nearest = {
        site: tuple(replace(choice, weight_range="mse", rounding="nearest", symmetric=True) for choice in choices)
        for site, choices in offered.items()
    }
    assert noise(chosen) < 0.8 * noise(nearest)


def test_a_plan_that_needs_statistics_does_not_apply_without() -> None:
    model, _ = clean_model(Model.open(digits.path("transformer")), TARGET)
    nodes = {node.name or "": node for node in model.graph}
    offered = {site: (Weight4(rounding="gptq"),) for site in find_sites(model, TARGET) if site.op == "MatMul"}
    site = next(iter(sites_to_solve(offered, nodes)))
    with pytest.raises(BadPlan, match=site.name):
        Applier(TARGET)(model, Plan({site: Weight4(rounding="gptq")}))


SITE = Site("fc", "MatMul")
PLAIN: dict[Site, tuple[Choice, ...]] = {SITE: (Weight4(),)}
CHOSEN: dict[Site, tuple[Choice, ...]] = {SITE: (Weight4(rounding="gptq"),)}


def chosen_for(rows: int, columns: int) -> Weight4:
    """What one layer of correlated inputs takes."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(columns, rows)).astype(np.float32)
    value = ir.val("w", ir.DataType.FLOAT, weight.shape, const_value=ir.tensor(weight, name="w"))
    node = ir.node("MatMul", [ir.val("x", ir.DataType.FLOAT, [1, columns]), value], name=SITE.name)
    ir.Graph(list(node.inputs[:1]), node.outputs, nodes=[node], initializers=[value])  # type: ignore[arg-type]
    x = rng.normal(size=(4 * columns, columns)) @ rng.normal(size=(columns, columns))
    stats = LayerStats((None,), (), gram=x.T @ x / len(x))
    (choice,) = choose_roundings(PLAIN, {SITE.name: node}, {SITE: stats}, {})[SITE]
    assert isinstance(choice, Weight4)
    return choice


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ((("adaround", 64 * 64), ("quantease", 10**6)), "adaround"),
        ((("adaround", 64 * 64 - 1), ("quantease", 64 * 64)), "quantease"),
        ((("adaround", 64 * 64 - 1), ("quantease", 64 * 64 - 1)), "gptq"),
    ],
)
def test_a_layer_is_refined_by_the_first_solver_that_it_is_not_too_large_for(
    limits: tuple[tuple[str, int], ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "REFINEMENTS", limits)
    assert chosen_for(64, 64).rounding == name


def bench_with(noises: dict[str, float], weight_bytes: int = 1) -> Workbench:
    """One whose plans lose what their only site's rounding says."""

    def noise(plan: Plan, count: int) -> float:
        (choice,) = plan.choices.values()
        assert isinstance(choice, Weight4)
        return noises[choice.rounding]

    return cast(
        Workbench, SimpleNamespace(model=SimpleNamespace(weight_bytes=lambda: weight_bytes), noise=noise)
    )


@pytest.mark.parametrize(
    ("noise", "kept"), [(0.9, CHOSEN), (1.0, CHOSEN), (1.1, PLAIN), (float("inf"), PLAIN)]
)
def test_what_layers_chose_is_kept_where_the_model_loses_no_more(
    noise: float, kept: dict[Site, tuple[Choice, ...]]
) -> None:
    assert confirmed(bench_with({"gptq": noise, "nearest": 1.0}), CHOSEN, PLAIN) == kept


def test_large_models_are_not_run_to_confirm() -> None:
    assert confirmed(bench_with({}, weight_bytes=1 << 40), CHOSEN, PLAIN) == CHOSEN
