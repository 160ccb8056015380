"""Weights in halves cost half the file and nothing at run time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from lwc.backends.onnxruntime.session import create, session_options
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.pass_ import Outcome, PassContext
from lwc.compiler.core.plan import Plan, Site, Weight16
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import (
    FP16,
    assert_equivalent,
    assert_keeps_promises,
    assert_valid,
    disagreement,
    draw_feeds,
    run_onnxruntime,
)
from lwc.models import tiny
from lwc.models.tiny.text import graph
from lwc.passes.precision.half_weights import StoreHalf

TARGET = NAMED["cpu:x86-64-v4"]
GRAPHS = tiny.all_graphs()
TWO_PRODUCTS = """(float[N,64] x) => (float[N,64] y) <float[64,64] a, float[64,64] b, float[64] c>
    { h = MatMul(x, a) r = Relu(h) m = MatMul(r, b) y = Add(m, c) }"""


def model_of(text: str) -> ir.Model:
    return named(graph(text)())


def named(model: ir.Model) -> ir.Model:
    for node in model.graph:
        node.name = node.name or node.outputs[0].name
    infer_shapes(model)
    return model


def store(model: ir.Model, *names: str, **fields: Any) -> Outcome:
    """At the nodes of these names; at all when none is given."""
    sites = {Site(n.name or "", n.op_type): Weight16() for n in model.graph if not names or n.name in names}
    outcome = assert_keeps_promises(model, StoreHalf(), PassContext(TARGET, Plan(sites), **fields))
    assert_valid(model)
    return outcome


@pytest.mark.parametrize("name", GRAPHS)
def test_every_tiny_model_computes_nearly_the_same(name: str) -> None:
    before = named(GRAPHS[name]())
    after = before.clone()
    changed = store(after).changed
    if changed and name not in tiny.NOT_RUNNABLE:
        feeds = tiny.feeds(before)
        for a, b in zip(*(run_onnxruntime(ir.to_proto(m), feeds) for m in (before, after)), strict=True):
            assert not disagreement(a, b, FP16)


def test_the_file_is_half_as_large() -> None:
    before = model_of(TWO_PRODUCTS)
    after = before.clone()
    store(after)
    sizes = [len(ir.to_proto(model).SerializeToString()) for model in (before, after)]
    assert sizes[1] < 0.53 * sizes[0]


def test_what_onnx_runtime_executes_is_the_float_graph(tmp_path: Path) -> None:
    model = model_of(TWO_PRODUCTS)
    executed = []
    for name in ("before", "after"):
        options = session_options(TARGET.with_threads(1))
        options.optimized_model_filepath = str(tmp_path / name)
        create(ir.to_proto(model).SerializeToString(), options, name)
        executed.append([node.op_type for node in onnx.load(tmp_path / name).graph.node])
        store(model)
    assert executed[0] == executed[1]


def test_numbers_are_those_of_the_rounded_weights() -> None:
    before = model_of(TWO_PRODUCTS)
    rounded = before.clone()
    for name in ("a", "b"):
        value = rounded.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy().astype(np.float16).astype(np.float32), name=name)
    after = before.clone()
    store(after)
    assert_equivalent(rounded, after, draw_feeds(before))


def test_a_reader_that_is_no_site_keeps_the_float_weight() -> None:
    model = model_of("(float[2,8] x) => (float[2,8] y) <float[8,8] a> { h = MatMul(x, a) y = MatMul(h, a) }")
    store(model, "h")
    assert {name: value.dtype for name, value in model.graph.initializers.items()} == {
        "a": ir.DataType.FLOAT,
        "a.f16": ir.DataType.FLOAT16,
    }


def test_readers_of_one_weight_share_its_halves() -> None:
    model = model_of("(float[2,8] x) => (float[2,8] y) <float[8,8] a> { h = MatMul(x, a) y = MatMul(h, a) }")
    assert len(store(model).changed) == 2
    assert list(model.graph.initializers) == ["a.f16"]
    assert [node.op_type for node in model.graph] == ["Cast", "MatMul", "MatMul"]


def test_weights_beyond_half_precision_stay() -> None:
    model = model_of("(float[2,2] x) => (float[2,2] y) <float[2,2] a = {1e5, 1, 1, 1}> { y = MatMul(x, a) }")
    outcome = store(model)
    assert [skip.reason for skip in outcome.skipped] == ["its constant 'a' reaches 1e+05, beyond float16"]


def test_forks_share_the_stored_weights() -> None:
    source, memo = model_of(TWO_PRODUCTS), dict[Any, Any]()
    arrays = []
    for _ in range(2):
        fork = source.clone()
        store(fork, solved=memo)
        tensor = fork.graph.initializers["a.f16"].const_value
        assert tensor is not None
        arrays.append(tensor.numpy())
    assert np.shares_memory(*arrays)
