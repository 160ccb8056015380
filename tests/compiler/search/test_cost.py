"""Bytes of weights under each choice, and what values pay that cross between formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.analysis.sites import find_sites, site_of
from lwc.compiler.core.cache import Cache
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import (
    BFloat16,
    Choice,
    DynamicInt8,
    Float,
    Float8,
    Float16,
    Plan,
    Range,
    StaticInt8,
    Weight4,
    Weight8,
    Weight16,
)
from lwc.compiler.core.target import NAMED
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.cost import Rates, crossing_rates, crossings, exchanged, graph_bytes, weight_bytes
from lwc.compiler.search.decide import Decider, Wanted
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.solve import solve
from lwc.compiler.search.space import Option, Space
from lwc.compiler.slim import slimmed
from lwc.models import structures

TARGET = NAMED["cpu:x86-64-v4"]


def nodes(text: str, **shapes: tuple[int, ...]) -> list[ir.Node]:
    return list(parsed(text, **shapes).graph)


def parsed(text: str, **shapes: tuple[int, ...]) -> Model:
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]> agraph ' + text)
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    proto.graph.node[0].name = "site"
    model = Model(ir.from_proto(proto), "m")
    infer_shapes(model.ir)
    return model


GEMM = "(float[2,100] x) => (float[2,40] y) { y = Gemm (x, w, b) }"
CONV = "(float[1,16,8] x) => (float[1,40,6] y) { y = Conv (x, w, b) }"
GATHER = "(int64[2] x) => (float[2,100] y) { y = Gather (w, x) }"


@pytest.mark.parametrize(
    ("text", "shape", "choice", "portable", "expected"),
    [
        (GEMM, (100, 40), Float(), False, 4 * 4000),
        (GEMM, (100, 40), StaticInt8(), False, 4000),
        (GEMM, (100, 40), DynamicInt8(), False, 4000),
        (GEMM, (100, 40), Weight16(), False, 2 * 4000),
        (GEMM, (100, 40), Float16(), False, 2 * 4000),
        (GEMM, (100, 40), Float8(), False, 4000),
        # Four blocks of 32 hold 100 inputs: the last is filled up.
        (GEMM, (100, 40), Weight4(32), False, 40 * (4 * 16 + 4 * 2)),
        (GEMM, (100, 40), Weight4(32, symmetric=False), False, 40 * (4 * 16 + 4 * 2 + 2)),
        (GEMM, (100, 40), Weight8(32, symmetric=False), False, 40 * (4 * 32 + 4 * 2 + 4)),
        (GEMM, (100, 40), Weight4(32, symmetric=False), True, 40 * (50 + 4 * 2 + 2)),
        # A block of 128 is more than twice what 40 inputs need.
        (GEMM.replace("100", "40"), (40, 40), Weight8(128), False, 40 * (64 + 2)),
        (GEMM, (100, 40), Weight8(0), False, 40 * (100 + 2)),
        (CONV, (40, 16, 3), Weight8(0), False, 40 * (48 + 2)),
        (CONV, (40, 16, 3), Weight4(24, symmetric=False), False, 40 * (24 + 2 * 2 + 1)),
        (GATHER, (9, 100), Weight8(0), False, 9 * (100 + 2)),
        (GATHER, (9, 100), Weight4(50, symmetric=False), False, 9 * (50 + 2 * 2 + 2)),
    ],
)
def test_bytes_are_those_of_codes_scales_and_zero_points(
    text: str, shape: tuple[int, ...], choice: Choice, portable: bool, expected: int
) -> None:
    bias: dict[str, Any] = {"b": (40,)} if "b)" in text else {}
    node = nodes(text, w=shape, **bias)[0]
    assert weight_bytes(node, choice, replace(TARGET, portable=portable)) == expected + 4 * 40 * bool(bias)


@pytest.mark.parametrize("choice", [Float(), StaticInt8(), Weight16(), Weight4()])
def test_a_weight_of_two_readers_is_counted_once(choice: Choice) -> None:
    one = nodes("(float[2,64] x) => (float[2,64] y) { y = MatMul (x, w) }", w=(64, 64))
    two = nodes("(float[2,64] x) => (float[2,64] y) { t = MatMul (x, w)\n y = MatMul (t, w) }", w=(64, 64))
    assert sum(weight_bytes(node, choice) for node in two) == weight_bytes(one[0], choice)


@pytest.mark.parametrize(
    ("choice", "tolerance"),
    # In a chain of int8 sites each quantizes one value, a site alone two.
    [(StaticInt8(), 300), (Weight16(), 60), (Weight8(), 100), (Weight4(24, symmetric=False), 100)],
)
def test_what_a_choice_adds_to_a_file_is_about_what_is_predicted(choice: Choice, tolerance: int) -> None:
    text = "(float[2,16,100] x) => (float[2,40,98] y) { y = Conv (x, w, b) }"
    before = parsed(text, w=(40, 16, 3), b=(40,))
    (node,) = before.graph
    plan = Plan({site_of(node): choice}, {"x": Range(-1.0, 1.0), "y": Range(-1.0, 1.0)})
    files = [len(slimmed(each, ()).to_proto().SerializeToString()) for each in (before, Applier(TARGET)(before, plan))]
    predicted = [weight_bytes(node, each) + graph_bytes(node, each) for each in (Float(), choice)]
    assert abs((files[1] - files[0]) - (predicted[1] - predicted[0])) < tolerance


SHORT = ("float", "fp16")


@pytest.mark.parametrize(("saved", "chosen"), [((0.0, 0.3, 0.0), 0), ((0.0, 0.5, 0.0), 1), ((0.2, 0.2, 0.2), 3)])
def test_a_site_in_a_short_float_between_float_ones_must_save_more_than_both_casts(
    saved: tuple[float, ...], chosen: int
) -> None:
    chain = "(float[1,4,8] x) => (float[1,4,8] y) { a = Conv (x, w)\n b = Conv (a, w)\n y = Conv (b, w) }"
    model = parsed(chain, w=(4, 4, 1))
    for node in model.graph:
        node.name = f"site_{node.outputs[0].name}"
    sites = find_sites(model, replace(TARGET, choices=SHORT))
    options = {
        site: (Option(Float(), 1.0, 4, 0.0), Option(Float16(), 1.0 - ms, 2, 1e-6))
        for site, ms in zip(sites, saved, strict=True)
    }
    elements = dict.fromkeys(("x", "a", "b", "y"), 100.0)
    found = crossings(exchanged(model, sites, TARGET), elements, Rates(1.0, 1.0, {"float16": 0.002}))
    assert sum(isinstance(choice, Float16) for choice in solve(Space(options, found), 1.0).values()) == chosen


def test_casts_are_timed_only_of_formats_that_are_offered() -> None:
    cache = Cache(None)
    assert not crossing_rates(OnnxRuntime(), TARGET, cache).casts
    rates = crossing_rates(OnnxRuntime(), TARGET, cache, frozenset({Float16, BFloat16, StaticInt8}))
    assert set(rates.casts) == {"float16", "bfloat16"}
    assert min(rates.quantize, rates.dequantize, *rates.casts.values()) > 0.0


def test_a_target_that_offers_a_short_float_pays_for_casts(case_of: Callable[..., Any]) -> None:
    bench = case_of(Model.open(Path(structures.__file__).parent / "digits_cnn.onnx"), count=2).bench
    bench = replace(bench, target=replace(bench.target, choices=SHORT))
    decider = Decider(bench, Numbers(bench, bench.samples), Wanted())
    decider.find_sites()
    decider.calibrate()
    decider.measure_costs()
    decider.measure_losses()
    assert {tuple(o.choice for o in options) for options in decider.space.options.values()} == {(Float(), Float16())}
    assert len(decider.space.crossings) > len(decider.space.options)
    assert all(crossing.cast_ms["float16"] > 0.0 for crossing in decider.space.crossings)
