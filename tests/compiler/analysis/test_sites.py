from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.analysis.sites import choices_at, find_sites, macs, parameters, swallowed_by, unrounded
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site
from lwc.compiler.core.target import NAMED, Target

TARGET = NAMED["cpu:x86-64-v4"]


def read(text: str, **weights: tuple[int, ...]) -> Model:
    proto = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>\n agraph ' + text)
    for name, shape in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    model = ir.from_proto(proto)
    for node in model.graph:
        node.name = f"n{node.outputs[0].name}"
    infer_shapes(model)
    return Model(model, "sites")


def names(model: Model) -> list[str]:
    return [site.name for site in find_sites(model, TARGET)]


def node(model: Model, name: str) -> Any:
    return next(node for node in model.graph if node.name == name)


def test_layers_with_constant_weights_are_weight_sites() -> None:
    model = read(
        """(float[1,4,8,8] x) => (float[1,4] y) {
            a = Conv (x, w)
            b = ConvTranspose (a, w)
            c = GlobalAveragePool (b)
            d = Flatten (c)
            e = Gemm (d, g)
            y = MatMul (e, g)
        }""",
        w=(4, 4, 1, 1),
        g=(4, 4),
    )
    assert find_sites(model, TARGET) == (
        Site("na", "Conv", "weight"),
        Site("nb", "ConvTranspose", "weight"),
        Site("nc", "GlobalAveragePool", "activation"),
        Site("ne", "Gemm", "weight"),
        Site("ny", "MatMul", "weight"),
    )


def test_product_of_activations_is_an_activation_site() -> None:
    model = read("(float[4,4] x, float[4,4] z) => (float[4,4] y) { y = MatMul (x, z) }")
    assert find_sites(model, TARGET) == (Site("ny", "MatMul", "activation"),)


def test_what_a_kernel_swallows_is_no_site() -> None:
    model = read(
        "(float[2,4,4] x) => (float[2,4,4] y) { t = MatMul (x, w)\n u = Add (t, b)\n y = Relu (u) }", w=(4, 4), b=(4,)
    )
    assert names(model) == ["nt"]
    assert swallowed_by(model) == {"nu": "nt", "ny": "nt"}


def test_add_that_is_no_bias_is_a_site() -> None:
    model = read(
        "(float[4,4] x, float[4,4] z) => (float[4,4] y) { t = MatMul (x, w)\n u = Add (t, z)\n y = Add (u, p) }",
        w=(4, 4),
        p=(4, 4),
    )
    assert names(model) == ["nt", "nu", "ny"]


def test_operators_on_integers_are_no_sites() -> None:
    model = read("(int64[4] x) => (int64[4] y) { t = Add (x, x)\n y = Concat <axis = 0> (t) }")
    assert names(model) == []


@pytest.mark.parametrize(
    "body",
    [
        "y = Conv (x, w, x)",
        "y = Conv (w, x)",
        "y = AveragePool <kernel_shape = [2, 2], ceil_mode = 1> (x)",
        "y = InstanceNormalization (x, one, one)",
        "y = Gelu (x)",
    ],
)
def test_operator_no_integer_kernel_computes_is_no_site(body: str) -> None:
    model = read("(float[4,4,1,1] x) => (float[N,C,H,W] y) { " + body + " }", w=(4, 4, 1, 1), one=(4,))
    assert names(model) == []


def test_overridable_weight_makes_no_weight_site() -> None:
    model = read("(float[4,4] x, float[4,4] w) => (float[4,4] y) { y = Gemm (x, w) }", w=(4, 4))
    assert names(model) == []


def test_body_of_a_subgraph_holds_no_sites() -> None:
    model = read(
        """(float[4,4] x, bool p) => (float[4,4] y) {
            y = If (p) <then_branch = t () => (float[4,4] a) { a = MatMul (x, w) },
                        else_branch = e () => (float[4,4] b) { b = Sigmoid (x) }>
        }""",
        w=(4, 4),
    )
    assert names(model) == []


LARGE, SMALL = (32, 32), (4, 4)
STORED = ("w8", "w4", "w16")


@pytest.mark.parametrize(
    ("text", "weight", "expected"),
    [
        ("(float[1,32,8,8] x) => (float[N,C,H,W] y) { y = Conv (x, w) }", (32, 32, 1, 1), ["int8", *STORED]),
        ("(float[1,4,8,8] x) => (float[N,C,H,W] y) { y = Conv (x, w) }", (4, 4, 1, 1), ["int8"]),
        ("(float[1,32,8,8] x) => (float[N,C,H,W] y) { y = ConvTranspose (x, w) }", (32, 32, 1, 1), list(STORED)),
        ("(float[1,4,8,8] x) => (float[N,C,H,W] y) { y = ConvTranspose (x, w) }", (4, 4, 1, 1), []),
        ("(float[4,32] x) => (float[4,32] y) { y = MatMul (x, w) }", LARGE, ["int8", "int8-dynamic", *STORED]),
        ("(float[4,32] x) => (float[4,32] y) { y = Gemm (x, w) }", LARGE, ["int8", "int8-dynamic", *STORED]),
        ("(float[4,4] x) => (float[4,4] y) { y = Gemm (x, w) }", SMALL, ["int8", "int8-dynamic"]),
        ("(float[32,4] x) => (float[32,4] y) { y = MatMul (w, x) }", LARGE, ["int8", *STORED]),
        ("(float[4,4] x) => (float[4,4] y) { y = MatMul (x, x) }", SMALL, ["int8"]),
        ("(float[4,4] x) => (float[4,4] y) { y = Add (x, x) }", SMALL, ["int8"]),
        ("(float[1,64] x) => (float[80,64] y) { y = Add (x, w) }", (80, 64), ["int8", *STORED]),
        ("(int64[4] x) => (float[4,32] y) { y = Gather (w, x) }", LARGE, list(STORED)),
        ("(float[5,2,16] x) => (float[5,1,2,16] y) { y = RNN (x, w, w) }", (1, 64, 16), list(STORED)),
    ],
)
def test_choices_are_what_has_kernels_or_saves_bytes(text: str, weight: tuple[int, ...], expected: list[str]) -> None:
    model = read(text, w=weight)
    sites = find_sites(model, TARGET)
    found = [choice.name for site in sites for choice in choices_at(model, site, TARGET)]
    assert found == (["float", *expected] if sites else [])


@pytest.mark.parametrize(("number", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
@pytest.mark.parametrize(("op", "shape"), [("MatMul", LARGE), ("Gather", LARGE), ("Conv", (32, 32, 1, 1))])
def test_a_weight_that_holds_no_numbers_stays_float(op: str, shape: tuple[int, ...], number: float, word: str) -> None:
    texts = {
        "MatMul": "(float[4,32] x) => (float[4,32] y) { y = MatMul (x, w) }",
        "Gather": "(int64[4] x) => (float[4,32] y) { y = Gather (w, x) }",
        "Conv": "(float[1,32,8,8] x) => (float[N,C,H,W] y) { y = Conv (x, w) }",
    }
    model = read(texts[op], w=shape)
    weight = np.ones(shape, np.float32)
    assert not unrounded(node(model, "ny"))
    weight[3, 1] = number
    model.graph.initializers["w"].const_value = ir.tensor(weight)
    (site,) = find_sites(model, TARGET)
    assert [choice.name for choice in choices_at(model, site, TARGET)] == ["float"]
    assert unrounded(node(model, "ny")) == f"'w' holds {word}: it stays float"


def test_limits_of_a_clip_may_be_infinite() -> None:
    model = read("(float[4,32] x) => (float[4,32] y) { t = MatMul (x, w)\n y = Clip (t, low) }", w=LARGE, low=())
    model.graph.initializers["low"].const_value = ir.tensor(np.float32(-np.inf))
    assert not unrounded(node(model, "nt"))


def test_target_without_integers_offers_float_alone() -> None:
    model = read("(float[4,32] x) => (float[4,32] y) { y = MatMul (x, w) }", w=LARGE)
    target = Target("t", "cuda", "sm_80", choices=("float",))
    assert [c.name for c in choices_at(model, find_sites(model, target)[0], target)] == ["float"]


def test_lookups_and_recurrent_layers_are_weight_sites() -> None:
    model = read(
        """(int64[6,2] i) => (float[6,1,2,16] y) {
            x = Gather (table, i)
            y = RNN <hidden_size = 16> (x, w, w)
        }""",
        table=(64, 16),
        w=(1, 64, 16),
    )
    assert find_sites(model, TARGET) == (Site("nx", "Gather", "weight"), Site("ny", "RNN", "weight"))


@pytest.mark.parametrize(
    ("text", "weight", "expected"),
    [
        ("(float[1,6,8,8] x) => (float[N,C,H,W] y) { y = Conv (x, w) }", (4, 6, 3, 3), 4 * 6 * 6 * 6 * 9),
        ("(float[1,6,8,8] x) => (float[N,C,H,W] y) { y = Conv <group = 2> (x, w) }", (4, 3, 3, 3), 4 * 6 * 6 * 3 * 9),
        ("(float[1,6,8,8] x) => (float[N,C,H,W] y) { y = ConvTranspose (x, w) }", (6, 4, 2, 2), 6 * 64 * 4 * 4),
        ("(float[3,6] x) => (float[3,5] y) { y = Gemm (x, w) }", (6, 5), 3 * 6 * 5),
        ("(float[3,6] x) => (float[3,5] y) { y = Gemm <transB = 1> (x, w) }", (5, 6), 3 * 6 * 5),
        ("(float[2,3,6] x) => (float[2,3,5] y) { y = MatMul (x, w) }", (6, 5), 2 * 3 * 6 * 5),
        ("(float[B,3,6] x) => (float[B,3,5] y) { y = MatMul (x, w) }", (6, 5), 3 * 6 * 5),
        ("(float[3,6] x) => (float[3,6] y) { y = Mul (x, w) }", (6,), 0),
    ],
)
def test_macs_count_multiply_accumulates(text: str, weight: tuple[int, ...], expected: int) -> None:
    model = read(text, w=weight)
    assert macs(node(model, "ny")) == expected


def test_empty_constants_are_no_sites() -> None:
    model = read("(float[N,4] x) => (float[M,4] y, float[N,0] e) { e = MatMul (x, w) y = Concat<axis=0> (x, c) }",
                 w=(4, 0), c=(0, 4))  # fmt: skip
    assert names(model) == []


def test_macs_of_integer_forms_are_those_of_the_float_ones() -> None:
    text = "(uint8[2, 6] x) => (int32[2, 5] y) { y = MatMulInteger (x, w) }"
    proto = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> agraph ' + text)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((6, 5), np.int8), "w"))
    assert [macs(node) for node in ir.from_proto(proto).graph] == [2 * 6 * 5]
    text = "(float[2, 3, 64] x, uint8[5, 2, 16] w, float[10] s) => (float[2, 3, 5] y)"
    body = "{ y = com.microsoft.MatMulNBits <K = 64, N = 5, bits = 4, block_size = 32> (x, w, s) }"
    domains = '["" : 17, "com.microsoft" : 1]'
    proto = onnx.parser.parse_model(f"<ir_version: 8, opset_import: {domains}> agraph {text} {body}")
    assert [macs(node) for node in ir.from_proto(proto).graph] == [6 * 64 * 5]


def test_macs_of_a_product_of_unknown_shape_are_those_of_one_row() -> None:
    model = read("(float[A, B] x, int64[2] s) => (y) { r = Reshape (x, s) y = MatMul (r, w) }", w=(64, 10))
    node(model, "ny").outputs[0].shape = None
    assert macs(node(model, "ny")) == 640


def test_macs_of_a_product_of_activations() -> None:
    model = read("(float[2,3,6] x, float[2,6,5] z) => (float[2,3,5] y) { y = MatMul (x, z) }")
    assert macs(node(model, "ny")) == 2 * 3 * 6 * 5


def test_parameters_count_constants_once() -> None:
    model = read("(float[3,6] x) => (float[3,6] y) { y = Gemm (x, w, b) }", w=(6, 6), b=(6,))
    assert parameters(node(model, "ny")) == 42
