"""What every pass promises, on every tiny graph."""

from __future__ import annotations

import functools
from typing import Any

import onnx_ir as ir
import pytest

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.digest import digest
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.pass_ import Pass, PassContext
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import assert_keeps_promises, disagreement, run_onnxruntime
from lwc.models import tiny
from lwc.passes import ALL_PASSES, CANONICALIZE, FUSE, MERGE, clean
from lwc.passes.canonicalize.raise_opset import RaiseOpset
from lwc.passes.surgery.graph_surgeon import GraphSurgeonPass

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])
GRAPHS = tiny.all_graphs()
RANDOM = ("RandomNormal", "RandomUniform", "Bernoulli", "Multinomial", "RandomNormalLike", "Dropout")


def instance(kind: type[Pass]) -> Pass:
    return GraphSurgeonPass(lambda graph: None) if kind is GraphSurgeonPass else kind()


@functools.cache
def outputs_before(name: str) -> list[Any] | None:
    """What ONNX Runtime makes of the graph; None when it does not run it, or draws random numbers."""
    model = GRAPHS[name]()
    if name in tiny.NOT_RUNNABLE or any(node.op_type in RANDOM for node in model.graph.all_nodes()):
        return None
    return list(run_onnxruntime(ir.to_proto(model), tiny.feeds(model)))


def assert_same_outputs(name: str, model: ir.Model) -> None:
    before = outputs_before(name)
    if before is not None:
        assert not disagreement(before, list(run_onnxruntime(ir.to_proto(model), tiny.feeds(GRAPHS[name]()))))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("kind", ALL_PASSES, ids=lambda kind: kind.name)
def test_keeps_its_promises(kind: type[Pass], name: str) -> None:
    model = GRAPHS[name]()
    infer_shapes(model)
    try:
        outcome = assert_keeps_promises(model, instance(kind), CONTEXT)
    except LwcError:
        assert kind in (RaiseOpset, GraphSurgeonPass)  # these may refuse a graph, and say why
        return
    if outcome.changed:  # else its digest is the one before
        assert_same_outputs(name, model)


@pytest.mark.parametrize("name", GRAPHS)
def test_clean_reaches_a_fixed_point_that_computes_the_same(name: str) -> None:
    model = GRAPHS[name]()
    clean(CONTEXT.target).run(model, CONTEXT)
    cleaned = digest(model)
    assert not clean(CONTEXT.target).run(model, CONTEXT).changed
    assert digest(model) == cleaned
    names = [node.name for graph in model.graphs() for node in graph]
    assert all(names)
    assert len(names) == len(set(names))
    assert_same_outputs(name, model)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_fork_is_not_touched_by_cleaning_its_copy(name: str) -> None:
    model = GRAPHS[name]()
    before = digest(model)
    fork = model.clone()
    clean(CONTEXT.target).run(fork, CONTEXT)
    assert digest(model) == before


def test_clean_is_deterministic() -> None:
    texts = []
    for _ in range(2):
        model = GRAPHS["residual_block" if "residual_block" in GRAPHS else next(iter(GRAPHS))]()
        clean(CONTEXT.target).run(model, CONTEXT)
        texts.append(ir.to_proto(model).SerializeToString(deterministic=True))
    assert texts[0] == texts[1]


def test_passes_have_names_of_their_own() -> None:
    names = [kind.name for kind in ALL_PASSES]
    assert len(names) == len(set(names))


def test_every_pass_of_the_pipelines_is_registered() -> None:
    assert {type(step) for step in (*CANONICALIZE, *FUSE, *MERGE)} <= set(ALL_PASSES)
