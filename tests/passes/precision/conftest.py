"""A study: a small model, int8 by a plan over all its sites, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.backends.onnxruntime.session import create, session_options
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.analysis.sites import choices_at, find_sites
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import Outcome, PassContext, Pipeline
from lwc.compiler.core.plan import Plan, Range, Site
from lwc.compiler.core.target import NAMED, Target
from lwc.passes.precision import PRECISION_PASSES, required_values

TARGET = OnnxRuntime().narrow(NAMED["cpu:x86-64-v4"])
FREE = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")  # layout, put in or out as the runtime likes


@dataclass(frozen=True)
class Study:
    """before, after: the models;  executed: operators after ONNX Runtime's optimizations, without mere layout"""

    before: Model
    after: Model
    plan: Plan
    outcome: Outcome
    executed: list[str]
    feeds: dict[str, Any]
    wanted: dict[str, Any]
    found: dict[str, Any]

    def sqnr(self, name: str = "y") -> float:
        """Signal to quantization noise of an output in decibels."""
        signal, noise = np.square(self.wanted[name]).sum(), np.square(self.wanted[name] - self.found[name]).sum()
        return float(10 * np.log10(signal / noise)) if noise else float("inf")

    def ops(self) -> list[str]:
        """Operators of the rewritten graph, in order."""
        return [node.op_type for node in self.after.graph]

    def initializers(self) -> dict[str, Any]:
        return {name: v.const_value.numpy() for name, v in self.after.graph.initializers.items() if v.const_value}


def read(text: str, weights: Mapping[str, Any] | None = None, opset: int = 17) -> Model:
    """A model from ONNX text whose undeclared names are these weights."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n' + text)
    for name, array in (weights or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    model = ir.from_proto(proto)
    for index, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type.lower()}_{index}"
    infer_shapes(model)
    return Model(model, "study")


def random_feeds(model: Model, count: int = 4) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    size = {"batch": 2, "length": 5}
    return [
        {
            v.name or "": rng.standard_normal([d if isinstance(d, int) else size.get(str(d), 3) for d in v.shape or ()])
            .astype(np.float32)
            for v in model.graph.inputs
        }
        for _ in range(count)
    ]  # fmt: skip


def plan_of(model: Model, choice: str, feeds: list[dict[str, Any]], keep: Callable[[Site], bool]) -> Plan:
    """Every site that offers `choice` takes it, with ranges from minimum and maximum."""
    chosen = {
        site: option
        for site in find_sites(model, TARGET)
        for option in choices_at(model, site, TARGET)
        if option.name == choice and keep(site)
    }
    names = sorted(required_values(model.ir, chosen)) if choice == "int8" else []
    session = OnnxRuntime().session(model, TARGET, names)
    seen = [{**feed, **session.run(feed)} for feed in feeds]
    ranges = {n: Range(min(float(s[n].min()) for s in seen), max(float(s[n].max()) for s in seen)) for n in names}
    return Plan(chosen, ranges)


def executed_ops(model: Model, folder: Path) -> list[str]:
    """What ONNX Runtime runs."""
    options = session_options(TARGET.with_threads(1))
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    create(model.to_proto().SerializeToString(), options, model.name)
    return [n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node if n.op_type not in FREE]


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    def run(
        text: str | Model,
        weights: Mapping[str, Any] | None = None,
        choice: str = "int8",
        keep: Callable[[Site], bool] = lambda site: True,
        plan: Callable[[Plan], Plan] = lambda plan: plan,
        feeds: Callable[[dict[str, Any]], dict[str, Any]] = lambda feeds: feeds,
        opset: int = 17,
        **target: Any,
    ) -> Study:
        before = text if isinstance(text, Model) else read(text, weights, opset)
        drawn = [feeds(feed) for feed in random_feeds(before)]
        made = plan(plan_of(before, choice, drawn, keep))
        context = PassContext(replace(TARGET, threads=1, **target), made)
        after = before.fork()
        outcome = Pipeline(PRECISION_PASSES).run(after.ir, context)
        onnx.checker.check_model(after.to_proto(), full_check=True)
        backend = OnnxRuntime()
        wanted = backend.session(before, TARGET.with_threads(1)).run(drawn[0])
        found = backend.session(after, TARGET.with_threads(1)).run(drawn[0])
        again = after.fork()
        repeated = Pipeline(PRECISION_PASSES).run(again.ir, context)
        assert not repeated.changed, f"a second run changed {repeated.changed}"
        assert again.digest() == after.digest(), "a second run changed the graph"
        assert bool(outcome.changed) == (after.digest() != before.digest())
        return Study(before, after, made, outcome, executed_ops(after, tmp_path), drawn[0], wanted, found)

    return run


@pytest.fixture
def target() -> Target:
    return TARGET
