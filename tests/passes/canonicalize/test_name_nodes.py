from __future__ import annotations

import onnx
import onnx_ir as ir

from lwc.compiler.core.digest import digest
from lwc.compiler.testing import CONTEXT, parse
from lwc.passes.canonicalize.name_nodes import NameNodes


def named(*names: str) -> ir.Model:
    """A chain of Relu nodes with these names."""
    model = parse("g (float[2] v0) => (float[2] w) { " + "\n".join(f"v{k + 1} = Relu(v{k})" for k in range(len(names)))
                  + f"\n w = Neg(v{len(names)}) }}")  # fmt: skip
    for node, name in zip(model.graph, (*names, "last"), strict=True):
        node.name = name
    NameNodes().run(model, CONTEXT)
    return model


def names(model: ir.Model) -> list[str | None]:
    return [node.name for node in model.graph]


def test_unique_names_stay() -> None:
    assert names(named("a", "b")) == ["a", "b", "last"]


def test_a_node_without_name_is_called_like_its_first_output() -> None:
    assert names(named("", "b")) == ["v1", "b", "last"]


def test_the_first_of_equal_names_keeps_it() -> None:
    assert names(named("a", "a", "a")) == ["a", "a.1", "a.2", "last"]


def test_a_made_name_clashes_with_none() -> None:
    assert names(named("a", "a", "a.1")) == ["a", "a.2", "a.1", "last"]


def test_nodes_of_branches_get_names_unlike_those_of_the_main_graph() -> None:
    model = parse(
        "g (bool c, float[2] x) => (float[2] y) { t = Relu(x)\n y = If(c) <"
        "then_branch = p () => (float[2] u) { u = Relu(t) }, else_branch = q () => (float[2] v) { v = Neg(t) }> }"
    )
    for graph in model.graphs():
        for node in graph:
            node.name = "same"
    NameNodes().run(model, CONTEXT)
    found = [node.name for graph in model.graphs() for node in graph]
    assert len(set(found)) == len(found) == 4


def test_reports_no_change_because_names_are_no_part_of_the_digest() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    before = digest(model)
    assert not NameNodes().run(model, CONTEXT).changed
    assert digest(model) == before
    onnx.checker.check_model(ir.to_proto(model))
