"""Every kind of broken model is refused with its own sentence, in the main graph, in subgraphs and in functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, parser

from lwc.compiler.core.check import foreign_operators
from lwc.compiler.core.errors import BadInput, InvalidGraph, UnsupportedOperator, UnsupportedOpset
from lwc.compiler.core.model import Model

HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.example" : 1, "local" : 1]>'
PLAIN = HEADER + "g (float[3] x) => (float[3] y) {{ {body} }}"
BRANCH = (
    HEADER
    + """g (float[3] x, bool c) => (float[3] z) {{
        k = Relu(x)
        z = If (c) <
            then_branch = t () => (float[3] y) {{ {body} }},
            else_branch = e () => (float[3] o) {{ o = Identity(x) }}
        >
    }}"""
)
FUNCTION = (
    HEADER
    + """g (float[3] x) => (float[3] y) {{ y = local.f(x) }}
    <domain: "local", opset_import: ["" : 17, "com.example" : 1, "local" : 1]> f (x) => (y) {{ {body} }}"""
)
PLACES = {"main graph": PLAIN, "subgraph": BRANCH, "function": FUNCTION}


def open_model(proto: onnx.ModelProto, folder: Path) -> Model:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return Model.open(path)


def refusal(proto: onnx.ModelProto, folder: Path, kind: type[BadInput]) -> str:
    with pytest.raises(kind) as caught:
        open_model(proto, folder)
    assert caught.value.exit_code == 3
    assert caught.value.message.count("\n") == 0
    return str(caught.value)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Callable[[str], onnx.ModelProto]:
    """Puts nodes that make y from x into a main graph, a subgraph, or a function."""
    text = PLACES[request.param]
    return lambda body: parser.parse_model(text.format(body=body))


Place = Callable[[str], onnx.ModelProto]


def test_opens_a_valid_model(place: Place, tmp_path: Path) -> None:
    assert open_model(place("a = Neg(x) y = Abs(a)"), tmp_path).opset == 17


def test_refuses_a_cycle(place: Place, tmp_path: Path) -> None:
    text = refusal(place("a = Add(x, b) b = Neg(a) y = Abs(x)"), tmp_path, InvalidGraph)
    assert "the graph is cyclic" in text
    assert "needs its own result" in text


def test_refuses_a_node_that_reads_its_own_output(place: Place, tmp_path: Path) -> None:
    assert "cyclic" in refusal(place("a = Add(x, a) y = Abs(a)"), tmp_path, InvalidGraph)


def test_refuses_a_cycle_through_a_subgraph(tmp_path: Path) -> None:
    model = parser.parse_model(
        HEADER
        + """g (float[3] x, bool c) => (float[3] y) {
            a = If (c) <
                then_branch = t () => (float[3] p) { p = Neg(b) },
                else_branch = e () => (float[3] q) { q = Abs(x) }
            >
            b = Relu(a)
            y = Neg(b)
        }"""
    )
    assert "cyclic" in refusal(model, tmp_path, InvalidGraph)


def test_sorts_nodes_that_stand_in_the_wrong_order(place: Place, tmp_path: Path) -> None:
    model = open_model(place("y = Abs(a) a = Neg(x)"), tmp_path)
    straight = open_model(place("a = Neg(x) y = Abs(a)"), tmp_path)
    assert model.digest() == straight.digest()
    for root in (model.graph, *model.ir.functions.values()):
        ops = [node.op_type for node in root.all_nodes() if node.op_type in ("Neg", "Abs")]
        assert ops in ([], ["Neg", "Abs"])


def test_refuses_an_input_that_nothing_makes(place: Place, tmp_path: Path) -> None:
    text = refusal(place("y = Add(x, ghost)"), tmp_path, InvalidGraph)
    assert "reads 'ghost', which nothing makes." in text


def test_refuses_an_output_that_nothing_makes(place: Place, tmp_path: Path) -> None:
    assert "the output 'y' is made by nothing" in refusal(place("a = Neg(x)"), tmp_path, InvalidGraph)


def test_refuses_a_subgraph_that_returns_a_value_of_the_graph_around(tmp_path: Path) -> None:
    model = parser.parse_model(BRANCH.format(body="y = Neg(x)"))
    model.graph.node[1].attribute[0].g.output[0].name = "k"
    assert "'k' is made by nothing in its graph" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_two_values_of_one_name(place: Place, tmp_path: Path) -> None:
    assert "two values have the name 'y'" in refusal(place("y = Neg(x) y = Abs(x)"), tmp_path, InvalidGraph)


def test_refuses_a_subgraph_value_with_the_name_of_one_around_it(tmp_path: Path) -> None:
    model = parser.parse_model(BRANCH.format(body="k = Neg(x) y = Abs(k)"))
    assert "two values have the name 'k'" in refusal(model, tmp_path, InvalidGraph)


def test_accepts_a_loop_body_whose_input_hides_a_value_around_it(tmp_path: Path) -> None:
    model = parser.parse_model(
        HEADER
        + """g (float[3] x, int64 n, bool c) => (float[3] y) {
            y = Loop (n, c, x) <
                body = b (int64 i, bool go, float[3] x) => (bool on, float[3] z) { on = Identity(go) z = Neg(x) }
            >
        }"""
    )
    assert open_model(model, tmp_path).opset == 17


def test_refuses_two_initializers_of_one_name(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Add(x, w)"))
    model.graph.initializer.extend([helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])] * 2)
    assert "two initializers have the name 'w'" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_an_operator_that_the_standard_domain_does_not_have(place: Place, tmp_path: Path) -> None:
    text = refusal(place("y = Sharpen(x)"), tmp_path, InvalidGraph)
    assert "(Sharpen)" in text or "operator Sharpen" in text
    assert "the standard domain has no operator 'Sharpen' at opset 17." in text


@pytest.mark.parametrize(("operator", "opset"), [("Gelu", 19), ("Upsample", 10), ("Scatter", 11), ("Mish", 13)])
def test_refuses_an_operator_that_its_opset_does_not_have(operator: str, opset: int, tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body=f"y = {operator}(x)"))
    model.opset_import[0].version = opset
    text = refusal(model, tmp_path, InvalidGraph)
    assert f"the standard domain has no operator '{operator}' at opset {opset}." in text


def test_keeps_operators_of_other_domains_and_lists_them(place: Place, tmp_path: Path) -> None:
    model = open_model(place("a = com.example.Sharpen(x) y = Neg(a)"), tmp_path)
    assert foreign_operators(model.ir) == (("com.example", "Sharpen"),)


def test_does_not_list_calls_of_functions_as_foreign(tmp_path: Path) -> None:
    model = open_model(parser.parse_model(FUNCTION.format(body="y = Neg(x)")), tmp_path)
    assert foreign_operators(model.ir) == ()


def test_takes_a_layer_normalization_fused_before_it_was_standard_for_a_foreign_one(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = LayerNormalization(x, x)"))
    model.opset_import[0].version = 11
    assert foreign_operators(open_model(model, tmp_path).ir) == (("", "LayerNormalization"),)


def test_refuses_a_domain_of_onnx_that_is_not_imported(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = ai.onnx.ml.Scaler(x)"))
    assert "of domain 'ai.onnx.ml', which is not imported" in refusal(model, tmp_path, InvalidGraph)


def test_takes_ai_onnx_for_the_standard_domain(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = ai.onnx.Neg(x)"))
    model.opset_import[0].domain = "ai.onnx"
    opened = open_model(model, tmp_path)
    assert opened.opset == 17
    assert [node.domain for node in opened.nodes()] == [""]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("y = Neg(x, x)", "has 2 inputs; 1 to 1 are allowed"),
        ("y = Add(x)", "has 1 inputs; 2 to 2 are allowed"),
        ("y, b = Neg(x)", "has 2 outputs; 1 to 1 are allowed"),
        ("y = Neg <depth = 1> (x)", "has an unknown attribute 'depth'"),
        ("y = Softmax <axis = 1.5> (x)", "has the wrong type of attribute 'axis'"),
        ("y = Concat (x, x)", "lacks its attribute 'axis'"),
    ],
)
def test_refuses_a_node_that_its_operator_does_not_allow(
    body: str, sentence: str, place: Place, tmp_path: Path
) -> None:
    assert sentence in refusal(place(body), tmp_path, InvalidGraph)


def test_refuses_an_attribute_given_twice(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Softmax <axis = 0> (x)"))
    model.graph.node[0].attribute.append(model.graph.node[0].attribute[0])
    assert "has two attributes 'axis'" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_a_reference_to_an_attribute_that_no_function_gives(tmp_path: Path) -> None:
    model = parser.parse_model(FUNCTION.format(body="y = Softmax <axis: int = @axis> (x)"))
    text = refusal(model, tmp_path, InvalidGraph)
    assert "refers to 'axis', which no function gives it" in text


@pytest.mark.parametrize("kind", ["UNDEFINED", "SPARSE_TENSOR"])
def test_refuses_an_attribute_without_a_type_or_of_a_sparse_one(kind: str, place: Place, tmp_path: Path) -> None:
    model = place("y = com.example.F <by = 1> (x)")
    content = model.SerializeToString()
    typed = onnx.AttributeProto(name="by", i=1, type=onnx.AttributeProto.INT).SerializeToString()
    changed = onnx.AttributeProto(name="by", i=1, type=kind).SerializeToString()
    assert content.count(typed) == 1
    model.ParseFromString(content.replace(typed, changed))
    assert "has the attribute 'by' without a type, or of a sparse one" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_a_model_without_outputs(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Neg(x)"))
    del model.graph.output[:]
    assert "it has no outputs" in refusal(model, tmp_path, InvalidGraph)


@pytest.mark.parametrize("field", ["type", "elem_type"])
def test_refuses_an_input_without_a_type(field: str, tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Neg(x)"))
    holder = model.graph.input[0] if field == "type" else model.graph.input[0].type.tensor_type
    holder.ClearField(field)
    assert "input 'x' has no type" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_a_function_that_calls_itself(tmp_path: Path) -> None:
    model = parser.parse_model(FUNCTION.format(body="y = local.f(x)"))
    assert "function 'f' calls itself" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_a_call_with_more_inputs_than_the_function_has(tmp_path: Path) -> None:
    model = parser.parse_model(FUNCTION.format(body="y = Neg(x)"))
    model.graph.node[0].input.append("x")
    assert "has more inputs or outputs than its function" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_two_functions_of_one_name(tmp_path: Path) -> None:
    model = parser.parse_model(FUNCTION.format(body="y = Neg(x)"))
    model.functions.append(model.functions[0])
    assert "two functions have the same name" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_an_opset_newer_than_onnx_knows(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Neg(x)"))
    model.opset_import[0].version = 9999
    text = refusal(model, tmp_path, UnsupportedOpset)
    assert text.startswith("model.onnx: opset 9999 is unknown; onnx ")


def test_refuses_an_unknown_opset_of_a_function(tmp_path: Path) -> None:
    model = parser.parse_model(FUNCTION.format(body="y = Neg(x)"))
    model.functions[0].opset_import[0].version = 9999
    assert "opset 9999 is unknown" in refusal(model, tmp_path, UnsupportedOpset)


@pytest.mark.parametrize("version", [0, -1])
def test_refuses_an_opset_that_never_was(version: int, tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Neg(x)"))
    model.opset_import[0].version = version
    assert f"opset {version} is unknown" in refusal(model, tmp_path, UnsupportedOpset)


def test_refuses_an_ir_version_newer_than_onnx_knows(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Neg(x)"))
    model.ir_version = 9999
    assert "IR version 9999 is unknown" in refusal(model, tmp_path, UnsupportedOpset)


def test_refuses_a_model_without_opsets(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Neg(x)"))
    del model.opset_import[:]
    assert "it imports no opset" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_one_domain_in_two_versions(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Neg(x)"))
    model.opset_import.append(helper.make_opsetid("", 16))
    assert "imports domain '' in two versions" in refusal(model, tmp_path, InvalidGraph)


def test_refuses_a_map_and_says_how_to_export_without(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="y = Neg(x)"))
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    model.graph.output[0].type.CopyFrom(kind)
    text = refusal(model, tmp_path, UnsupportedOperator)
    assert "'y' is a map" in text
    assert "zipmap=False" in text


def test_forgets_what_is_said_of_intermediate_maps(tmp_path: Path) -> None:
    model = parser.parse_model(PLAIN.format(body="a = com.example.Count(x) y = com.example.Sum(a)"))
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    model.graph.value_info.append(helper.make_value_info("a", kind))
    values = {value.name: value for node in open_model(model, tmp_path).graph for value in node.outputs}
    assert values["a"].type is None


def test_counts_an_operator_once_however_often_it_is_used() -> None:
    text = PLAIN.format(body="a = com.example.F(x) b = com.example.A(a) y = com.example.F(b)")
    model = ir.from_proto(parser.parse_model(text))
    assert foreign_operators(model) == (("com.example", "A"), ("com.example", "F"))
