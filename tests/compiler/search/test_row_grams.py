"""What the outputs feel of rows that are looked up: by hand where the model is linear, and used by the rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Plan, Site, Weight4
from lwc.compiler.search import row_grams as module
from lwc.compiler.search.decide import Decider, Wanted
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.relative_error import relative_error
from lwc.compiler.search.row_grams import row_grams

RNG = np.random.default_rng(11)
TABLE = RNG.standard_normal((96, 32)).astype(np.float32)
# A few directions matter much more than the rest.
PRODUCT = (RNG.standard_normal((32, 32)) * np.geomspace(1.0, 0.01, 32)).astype(np.float32)

SUM = """<ir_version: 10, opset_import: ["" : 21]>
agraph (int64[1, 12] ids, float[1, 12, 32] extra) => (float[1, 12, 32] y) {
    row = Gather<axis = 0>(table, ids)
    sum = Add(row, extra)
    y = MatMul(sum, product)
}"""
AVERAGED = """<ir_version: 10, opset_import: ["" : 21]>
agraph (int64[1, 12] ids) => (float[1, 32] y) {
    row = Gather<axis = 0>(table, ids)
    mean = ReduceMean<keepdims = 0>(row, axis)
    y = MatMul(mean, product)
}"""
NORMALIZED = """<ir_version: 10, opset_import: ["" : 21]>
agraph (int64[1, 12] ids) => (float[1, 12, 32] y) {
    row = Gather<axis = 0>(table, ids)
    even = LayerNormalization<axis = -1>(row, gain, zeros)
    y = MatMul(even, product)
}"""


def model_of(text: str) -> Model:
    proto = onnx.parser.parse_model(text)
    constants = {"table": TABLE, "product": PRODUCT, "gain": np.ones(32), "zeros": np.zeros(32), "axis": np.array([1])}
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(array if name == "axis" else array.astype(np.float32), name)
        for name, array in constants.items()
        if name in read
    )
    return Model.from_proto(proto, "lookup")


def samples_of(model: Model, count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    names = {value.name for value in model.graph.inputs}
    every = ({"ids": rng.integers(0, 96, (1, 12)), "extra": rng.standard_normal((1, 12, 32))} for _ in range(count))
    return [{k: v if k == "ids" else v.astype(np.float32) for k, v in one.items() if k in names} for one in every]


def lookup_of(bench: Workbench) -> dict[Site, ir.Node]:
    node = next(node for node in bench.model.graph if node.op_type == "Gather")
    return {Site(node.name or "", "Gather", "weight"): node}


def silent() -> None:
    pass


@pytest.fixture
def no_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RIDGE", 0.0)


@pytest.mark.usefixtures("no_ridge")
def test_of_a_linear_model_it_is_the_gram_matrix_of_its_product(case_of: Callable[..., Any]) -> None:
    model = model_of(SUM)
    bench = case_of(model, samples_of(model, 12)).bench
    (stats,) = row_grams(bench, lookup_of(bench), silent).values()
    exact = PRODUCT.astype(np.float64) @ PRODUCT.T
    assert stats.gram is not None
    np.testing.assert_allclose(stats.gram / np.trace(stats.gram), exact / np.trace(exact), atol=1e-4)


@pytest.mark.usefixtures("no_ridge")
def test_what_a_normalization_removes_is_not_felt(case_of: Callable[..., Any]) -> None:
    model = model_of(NORMALIZED)
    bench = case_of(model, samples_of(model, 12)).bench
    (stats,) = row_grams(bench, lookup_of(bench), silent).values()
    assert stats.gram is not None
    same = np.full(32, 32**-0.5)
    assert same @ stats.gram @ same < 1e-2 * np.trace(stats.gram) / 32


@pytest.mark.usefixtures("no_ridge")
def test_what_one_row_does_at_several_places_is_felt_together(
    case_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(AVERAGED)
    monkeypatch.setattr(module, "SAMPLES", 64)

    def felt(samples: list[dict[str, Any]]) -> float:
        bench = case_of(model, samples).bench
        (stats,) = row_grams(bench, lookup_of(bench), silent).values()
        outputs = [TABLE[bench.samples[i]["ids"][0]].mean(0) @ PRODUCT for i in range(64)]
        return float(np.trace(stats.gram) / np.mean([1.0 / np.square(y - y.mean()).sum() for y in outputs]))

    apart = [{"ids": RNG.permutation(96)[None, :12]} for _ in range(128)]
    together = [{"ids": np.full((1, 12), k % 96)} for k in range(128)]
    assert felt(together) / felt(apart) == pytest.approx(12.0, rel=0.5)


def test_a_table_that_would_take_too_long_is_left_out(
    case_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(SUM)
    bench = case_of(model, samples_of(model, 12)).bench
    monkeypatch.setattr(module, "MULTIPLY_ADDS", 1.0)
    assert row_grams(bench, lookup_of(bench), silent) == {}


def test_tables_are_rounded_for_what_the_outputs_feel(case_of: Callable[..., Any]) -> None:
    model = model_of(NORMALIZED)
    bench = case_of(model, samples_of(model, 12)).bench
    decider = Decider(bench, Numbers(bench, bench.samples), Wanted("w4"))
    decider.find_sites()
    decider.offered = {site: choices for site, choices in decider.offered.items() if site.op == "Gather"}
    decider._costs = {(site, choice): 0.0 for site, choices in decider.offered.items() for choice in choices}
    decider.solve_weights()
    ((site, solved),) = (
        (site, choice) for site, choices in decider.offered.items() for choice in choices if isinstance(choice, Weight4)
    )
    assert solved.rounding != "nearest"
    nearest = replace(solved, rounding="nearest", weight_range="mse")
    floating, unseen = bench.open(Plan()), samples_of(model, 40, seed=1)

    def noise(choice: Weight4) -> float:
        session = bench.open(Plan({site: choice}))
        return float(np.mean([relative_error(floating.run(sample), session.run(sample)) for sample in unseen]))

    assert noise(solved) < 0.5 * noise(nearest)
