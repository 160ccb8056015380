"""Roundings chosen by the layer objective, on a trained model."""

from dataclasses import replace

import pytest

from lwc import backends
from lwc.compiler.analysis.activations import collect
from lwc.compiler.analysis.sites import choices_at, find_sites
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan, Weight4
from lwc.compiler.core.target import NAMED
from lwc.compiler.data import Calibration
from lwc.compiler.prepare import clean_model
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.evaluate import relative_error
from lwc.compiler.search.rounding import choose_roundings, needs_gram, sites_to_solve
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
