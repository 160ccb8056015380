from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from lwc.compiler.core.digest import digest
from lwc.compiler.core.errors import MissingDependency, UsageError
from lwc.compiler.testing import CONTEXT, assert_equivalent, parse
from lwc.passes.edit import add_initializer
from lwc.passes.surgery.graph_surgeon import FoldWithGraphSurgeon, GraphSurgeonPass

TEXT = "g (float[2, 3] x) => (float[2, 3] y) <float s = {2}> { t = Mul(x, s)\n r = Relu(t)\n y = Neg(r) }"


def relu_to_tanh(graph: Any) -> None:
    for node in graph.nodes:
        if node.op == "Relu":
            node.op = "Tanh"


def annotated() -> ir.Model:
    model = parse(TEXT)
    model.metadata_props["author"] = "someone"
    model.graph.metadata_props["scope"] = "all"
    for node in model.graph:
        node.metadata_props["made"] = f"by {node.op_type}"
        node.doc_string = f"doc of {node.op_type}"
    next(iter(model.graph)).outputs[0].metadata_props["unit"] = "volt"
    return model


def test_an_edit_in_place_changes_the_model() -> None:
    model = parse(TEXT)
    outcome = GraphSurgeonPass(relu_to_tanh).run(model, CONTEXT)
    assert outcome.changed
    assert [node.op_type for node in model.graph] == ["Mul", "Tanh", "Neg"]
    assert_equivalent(parse(TEXT.replace("Relu", "Tanh")), model)


def test_an_edit_may_return_another_graph() -> None:
    def edited(graph: Any) -> Any:
        other = graph.copy()
        relu_to_tanh(other)
        return other

    model = parse(TEXT)
    GraphSurgeonPass(edited).run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Mul", "Tanh", "Neg"]


def test_an_edit_that_does_nothing_changes_nothing() -> None:
    model = annotated()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert not GraphSurgeonPass(lambda graph: None).run(model, CONTEXT).changed
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_metadata_of_model_nodes_and_values_is_put_back() -> None:
    model = annotated()
    GraphSurgeonPass(relu_to_tanh).run(model, CONTEXT)
    assert model.metadata_props == {"author": "someone"}
    assert model.graph.metadata_props == {"scope": "all"}
    assert [node.metadata_props["made"] for node in model.graph] == ["by Mul", "by Relu", "by Neg"]
    assert [node.doc_string for node in model.graph] == ["doc of Mul", "doc of Relu", "doc of Neg"]
    assert next(iter(model.graph)).outputs[0].metadata_props == {"unit": "volt"}


def test_defaults_of_inputs_stay_defaults() -> None:
    model = parse("g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { t = Add(x, w)\n r = Relu(t)\n y = Neg(r) }")
    GraphSurgeonPass(relu_to_tanh).run(model, CONTEXT)
    assert [value.name for value in model.graph.inputs] == ["x", "w"]
    default = model.graph.initializers["w"].const_value
    assert default is not None
    assert default.numpy().tolist() == [1, 2]


def test_symbols_and_types_of_inputs_and_outputs_stay() -> None:
    model = parse("g (float[N, 3] x) => (float[N, 3] y) { r = Relu(x)\n y = Neg(r) }")
    GraphSurgeonPass(relu_to_tanh).run(model, CONTEXT)
    assert [str(value.shape) for value in (*model.graph.inputs, *model.graph.outputs)] == ["[N,3]", "[N,3]"]


def test_an_edit_of_the_outputs_is_refused_and_the_model_is_untouched() -> None:
    def rename(graph: Any) -> None:
        graph.outputs[0].name = "z"

    model = parse(TEXT)
    before = digest(model)
    with pytest.raises(UsageError, match="outputs"):
        GraphSurgeonPass(rename).run(model, CONTEXT)
    assert digest(model) == before


def test_an_edit_that_leaves_an_invalid_graph_is_refused() -> None:
    def misspell(graph: Any) -> None:
        graph.nodes[0].op = "NoSuchOperator"

    model = parse(TEXT)
    before = digest(model)
    with pytest.raises(UsageError, match="invalid"):
        GraphSurgeonPass(misspell).run(model, CONTEXT)
    assert digest(model) == before


def test_an_edit_that_raises_is_named() -> None:
    def fail(graph: Any) -> None:
        raise KeyError("no such layer")

    with pytest.raises(UsageError, match="KeyError: 'no such layer'"):
        GraphSurgeonPass(fail).run(parse(TEXT), CONTEXT)


def test_bfloat16_weights_keep_their_bits() -> None:
    import ml_dtypes

    model = parse("g (float[3] x) => (float[3] y) { c = Cast<to=1>(w)\n r = Relu(x)\n y = Add(c, r) }")
    weight = np.array([1.5, -2.25, 3e30], ml_dtypes.bfloat16)
    dangling = next(iter(model.graph)).inputs[0]
    assert dangling is not None
    dangling.name = None
    dangling.replace_all_uses_with(add_initializer(model.graph, "w", weight))
    GraphSurgeonPass(relu_to_tanh).run(model, CONTEXT)
    kept = model.graph.initializers["w"].const_value
    assert kept is not None
    assert kept.dtype == ir.DataType.BFLOAT16
    assert kept.tobytes() == weight.tobytes()


def test_functions_and_branches_survive() -> None:
    model = parse(
        '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n'
        "g (bool c, float[2] x) => (float[2] y) { r = Relu(x)\n f = local.twice(r)\n y = If(c) <"
        "then_branch = p () => (float[2] u) { u = Neg(f) }, else_branch = q () => (float[2] v) { v = Abs(r) }> }"
        '<domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }'
    )
    GraphSurgeonPass(relu_to_tanh).run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Tanh", "twice", "If"]
    assert len(model.functions) == 1
    onnx.checker.check_model(ir.to_proto(model))


def test_a_missing_package_is_an_error_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", None)
    with pytest.raises(MissingDependency, match="pip install onnx-graphsurgeon"):
        GraphSurgeonPass(relu_to_tanh).run(parse(TEXT), CONTEXT)


def test_folding_at_load_computes_constants() -> None:
    model = parse("g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { t = Exp(a)\n y = Add(x, t) }")
    before = model.clone()
    assert FoldWithGraphSurgeon().run(model, CONTEXT).changed
    assert [node.op_type for node in model.graph] == ["Add"]
    assert_equivalent(before, model)
    assert not FoldWithGraphSurgeon().run(model, CONTEXT).changed


def test_folding_at_load_leaves_large_results_alone() -> None:
    text = "g (float[2] x) => (float[N] y) <int64[1] s = {1000000}> { t = ConstantOfShape(s)\n y = Add(x, t) }"
    model = parse(text)
    FoldWithGraphSurgeon(size_threshold=1024).run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["ConstantOfShape", "Add"]


def test_folding_at_load_says_why_it_does_nothing() -> None:
    model = parse(TEXT)
    node = next(iter(model.graph))
    node.attributes["kind"] = ir.AttrTypeProto("kind", ir.TypeAndShape(ir.TensorType(ir.DataType.FLOAT), ir.Shape([2])))
    outcome = FoldWithGraphSurgeon().run(model, CONTEXT)
    assert not outcome.changed
    assert "would drop attribute 'kind'" in outcome.skipped[0].reason
