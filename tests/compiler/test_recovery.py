"""--recover: what is asked for is pruned and taught, and number formats are decided for what comes of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import lwc
from lwc.compiler.core.errors import UnsupportedOperator, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan, Pruned
from lwc.compiler.decision import Decision
from lwc.compiler.options import CompileOptions, make_options
from lwc.compiler.search.space import Space
from lwc.models.tiny.text import graph

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")

NETWORK = graph("""(float[N,8] x) => (float[N,5] logits)
    <float[8,24] w1, float[24] b1, float[24,16] w2, float[16] b2, float[16,5] w3, float[5] b3>
    { h1 = MatMul(x, w1) a1 = Add(h1, b1) r1 = Relu(a1) h2 = MatMul(r1, w2) a2 = Add(h2, b2) r2 = Relu(a2)
      h3 = MatMul(r2, w3) logits = Add(h3, b3) }""")
SAMPLES = [{"x": row[None]} for row in np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)]
FEW_SECONDS = 3.0 / 60


@needs_torch
@pytest.mark.usefixtures("short_measurements")
def test_what_was_asked_for_is_pruned_taught_and_written(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    Model(NETWORK(), "network").save(path)
    artifact = lwc.compile(
        path, calib=SAMPLES, sparsity="channels:0.5", recover=FEW_SECONDS, precision="fp32", backend="ort",
        best_effort=True, cache=tmp_path / "cache",
    )  # fmt: skip
    assert "Recovery took the fidelity from" in artifact.report.accuracy.note
    plan = Plan.from_json((tmp_path / "network.lwc" / "plan.json").read_text())
    assert len(list(plan.sites(Pruned))) == 2
    written = ir.load(tmp_path / "network.lwc" / "model.onnx")
    values = {name: value.const_value for name, value in written.graph.initializers.items()}
    assert sum(value.size for value in values.values() if value is not None) < Model(NETWORK(), "network").parameters()


@pytest.mark.parametrize(
    "more", [{"sparsity": "none"}, {"sparsity": "auto", "plan": "plan.json"}, {"sparsity": "auto", "pareto": True}]
)
def test_options_that_make_no_sense_with_it_are_refused(more: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--recover"):
        make_options({"recover": 1.0, **more})


def test_minutes_are_a_number_above_zero() -> None:
    with pytest.raises(UsageError, match="recover"):
        CompileOptions(sparsity="auto", recover_minutes=-1.0)


@needs_torch
def test_a_model_that_cannot_be_taught_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "quantized.onnx"
    text = """(float[N,4] x) => (float[N,4] y) <float s = {0.1}, uint8 z = {128}, float[4,4] w>
        { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w) }"""
    Model(graph(text)(), "quantized").save(path)
    with pytest.raises(UnsupportedOperator, match="QuantizeLinear"):
        lwc.compile(path, sparsity="auto", recover=1.0, backend="ort", no_cache=True)


def test_the_whole_plan_holds_what_the_model_has_already() -> None:
    from lwc.compiler.core.plan import Float16, Site

    groups, layer = Site("conv", "Conv", "channels"), Site("conv", "Conv")
    had, plan = Plan({groups: Pruned((1,))}), Plan({layer: Float16()})
    decision = Decision(None, plan, Space({}), had=had)  # type: ignore[arg-type]
    assert decision.whole.choices == {**had.choices, **plan.choices}
    assert Decision(None, plan, Space({})).whole is plan  # type: ignore[arg-type]
