from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.testing import CONTEXT, EXACT, FP32, assert_equivalent, assert_keeps_promises, parse
from lwc.models import tiny
from lwc.passes import clean
from lwc.passes.edit import constant_array, input_of
from lwc.passes.precision.equalize_layers import EqualizeLayers, equalizable
from lwc.passes.solvers.scaling import equalizing_scale

RNG = np.random.default_rng(0)
GRAPHS = tiny.all_graphs()
PAIRED = (
    "mlp", "low_rank", "swiglu", "attention_block", "attention_block_masked", "encoder_block", "duplicate_weights",
)  # fmt: skip


def uneven(*shape: int, axis: int = 0) -> np.ndarray:
    """A weight whose channels along `axis` differ by orders of magnitude."""
    size = np.exp(2.5 * RNG.standard_normal(shape[axis])).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return (RNG.standard_normal(shape) * size).astype(np.float32)


def model_of(text: str, **weights: np.ndarray) -> ir.Model:
    model = parse(text, **weights)
    for index, node in enumerate(model.graph):
        node.name = f"n{index}"
    return model


def equalized(model: ir.Model, powers_of_two: bool = True) -> ir.Model:
    """All pairs equalized; the function is the same, to the bit for powers of two."""
    after = model.clone()
    rewrite = EqualizeLayers(equalizable(model), powers_of_two)
    assert assert_keeps_promises(after, rewrite, CONTEXT).changed
    assert_equivalent(model, after, tolerance=EXACT if powers_of_two else FP32)
    unread = [name for name, value in after.graph.initializers.items() if not value.uses()]
    assert not unread
    return after


def weight_of(model: ir.Model, name: str) -> np.ndarray:
    array = constant_array(input_of(next(node for node in model.graph if node.name == name), 1))
    assert array is not None
    return array


CONV = "g (float[2, 3, 8, 8] x) => (float[a, b, c, d] y) {{ t = Conv{0}(x, w{1})\n {2} }}"


@pytest.mark.parametrize("powers_of_two", [True, False])
@pytest.mark.parametrize("between", ["u = Relu(t)", "u = LeakyRelu(t)", "u = MaxPool<kernel_shape=[3, 3]>(t)"])
def test_ranges_of_neighbours_become_equal(between: str, powers_of_two: bool) -> None:
    text = CONV.format("", ", e", f"{between}\n y = Conv<pads=[1, 1, 1, 1]>(u, v, f)")
    model = model_of(text, w=uneven(6, 3, 3, 3), e=RNG.standard_normal(6).astype(np.float32),
                     v=uneven(4, 6, 3, 3, axis=1), f=np.ones(4, np.float32))  # fmt: skip
    after = equalized(model, powers_of_two)
    first, second = (np.abs(weight_of(after, name)) for name in ("n0", "n2"))
    ratio = first.max((1, 2, 3)) / second.max((0, 2, 3))
    limit = 2.0 if powers_of_two else 1.0 + 1e-5
    assert (np.maximum(ratio, 1 / ratio) <= limit * (1 + 1e-6)).all()


@pytest.mark.parametrize("powers_of_two", [True, False])
def test_a_depthwise_convolution_is_equalized_on_both_sides(powers_of_two: bool) -> None:
    text = CONV.format("", "", "u = Relu(t)\n s = Conv<group=6>(u, v)\n r = Relu(s)\n y = Conv(r, z)")
    model = model_of(text, w=uneven(6, 3, 1, 1), v=uneven(6, 1, 3, 3), z=uneven(4, 6, 1, 1, axis=1))
    after = equalized(model, powers_of_two)
    first, middle, last = (np.abs(weight_of(after, name)) for name in ("n0", "n2", "n4"))
    ranges = np.stack([first.max((1, 2, 3)), middle.max((1, 2, 3)), last.max((0, 2, 3))])
    assert (ranges.max(0) / ranges.min(0)).max() <= (4.0 if powers_of_two else 1.05)


@pytest.mark.parametrize("group", [1, 2])
def test_grouped_and_transposed_convolutions_are_equalized(group: int) -> None:
    text = CONV.format("", "", f"u = Relu(t)\n s = Conv<group={group}>(u, v)\n y = ConvTranspose<group={group}>(s, z)")
    equalized(model_of(text, w=uneven(6, 3, 1, 1), v=uneven(4, 6 // group, 3, 3), z=uneven(4, 4 // group, 2, 2)))
    text = CONV.format("", "", f"s = ConvTranspose<group={group}>(t, v)\n u = Relu(s)\n y = Conv(u, z)")
    equalized(model_of(text, w=uneven(6, 3, 1, 1), v=uneven(6, 4 // group, 2, 2), z=uneven(5, 4, 1, 1, axis=1)))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemms_are_equalized_whichever_way_their_weights_lie(first: int, second: int) -> None:
    text = (
        f"g (float[2, 5] x) => (float[a, b] y) {{ t = Gemm<alpha=0.5, beta=2.0, transB={first}>(x, w, e)\n"
        f" u = Relu(t)\n y = Gemm<transB={second}, beta=0.5>(u, v, f) }}"
    )
    w, v = uneven(6, 5), uneven(4, 6, axis=1)
    equalized(model_of(text, w=w if first else w.T.copy(), v=v if second else v.T.copy(),
                       e=np.ones(6, np.float32), f=np.ones(4, np.float32)))  # fmt: skip


def test_the_add_behind_a_matmul_is_its_bias() -> None:
    text = (
        "g (float[2, 3, 5] x) => (float[a, b, c] y)"
        " { t = MatMul(x, w)\n s = Add(e, t)\n u = Relu(s)\n y = MatMul(u, v) }"
    )
    model = model_of(text, w=uneven(5, 6, axis=1), e=uneven(6), v=uneven(6, 4))
    after = equalized(model)
    scale = weight_of(model, "n0")[0] / weight_of(after, "n0")[0]
    bias = constant_array(input_of(next(node for node in after.graph if node.name == "n1"), 0))
    np.testing.assert_array_equal(constant_array(model.graph.initializers["e"]) / scale, bias)


def test_a_pooled_and_flattened_convolution_is_equalized_with_its_classifier() -> None:
    text = "g (float[2, 3, 6, 6] x) => (float[a, b] y) {{ t = Conv(x, w)\n r = Relu(t)\n {0} y = Gemm(u, v) }}"
    equalized(model_of(text.format("p = GlobalAveragePool(r)\n u = Flatten(p)\n"),
                       w=uneven(6, 3, 3, 3), v=uneven(6, 4)))  # fmt: skip
    equalized(model_of(text.format("u = Flatten(r)\n"), w=uneven(6, 3, 3, 3), v=uneven(6 * 16, 4)))


def test_several_readers_are_equalized_by_the_largest_range_among_them() -> None:
    text = "g (float[2, 5] x) => (float[a, b] y) { t = Gemm(x, w)\n r = Gemm(t, v)\n s = Gemm(t, z)\n y = Add(r, s) }"
    model = model_of(text, w=uneven(5, 6, axis=1), v=uneven(6, 4), z=uneven(6, 4))
    after = equalized(model, powers_of_two=False)
    before = [np.abs(weight_of(model, name)) for name in ("n0", "n1", "n2")]
    scale = equalizing_scale(before[0].max(0), np.maximum(before[1].max(1), before[2].max(1)))
    np.testing.assert_allclose(weight_of(after, "n1"), weight_of(model, "n1") * scale[:, None], rtol=1e-5)


def test_layers_that_share_a_weight_keep_the_others_as_they_were() -> None:
    text = "g (float[2, 6] x) => (float[a, b] y) { t = Gemm(x, w)\n r = Relu(t)\n s = Gemm(r, w)\n y = Gemm(s, w) }"
    after = equalized(model_of(text, w=uneven(6, 6)))
    assert weight_of(after, "n0").shape == (6, 6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("t = Gemm(x, w)\n u = Sigmoid(t)\n y = Gemm(u, v)", "(Sigmoid) is in the way"),
        ("t = Gemm(x, w)\n u = Gemm(t, v)\n y = Add(u, t)", "(Add) is in the way"),
        ("y = Gemm(x, w)\n u = Gemm(y, v)", "output of the model"),
    ],
)
def test_what_stays_says_why(text: str, reason: str) -> None:
    model = model_of("g (float[2, 6] x) => (float[a, b] y) { " + text + " }", w=uneven(6, 6), v=uneven(6, 6))
    outcome = EqualizeLayers(("n0",)).run(model, CONTEXT)
    assert not outcome.changed
    assert [skip.site.name for skip in outcome.skipped] == ["n0"]
    assert reason in outcome.skipped[0].reason


def test_weights_that_are_no_numbers_stay() -> None:
    holed = uneven(6, 6)
    holed[2, 3] = np.inf
    for weights in ({"w": holed, "v": uneven(6, 6)}, {"w": uneven(6, 6), "v": holed}):
        model = model_of("g (float[2, 6] x) => (float[a, b] y) { t = Gemm(x, w)\n y = Gemm(t, v) }", **weights)
        assert not equalizable(model)
        (skip,) = EqualizeLayers(("n0",)).run(model, CONTEXT).skipped
        assert skip.reason == "a weight holds NaN or infinity"


def test_only_the_named_sites_are_touched() -> None:
    text = "g (float[2, 6] x) => (float[a, b] y) { t = Gemm(x, w)\n r = Gemm(t, v)\n y = Gemm(r, z) }"
    model = model_of(text, w=uneven(6, 6), v=uneven(6, 6), z=uneven(6, 6))
    outcome = EqualizeLayers(("n1",)).run(model, CONTEXT)
    assert {site.name for site in outcome.changed} == {"n1", "n2"}


def test_weights_that_would_overflow_stay() -> None:
    text = "g (float16[2, 2] x) => (float16[a, b] y) { t = Gemm(x, w, e)\n y = Gemm(t, v) }"
    model = model_of(text, w=np.full((2, 2), 6e-5, np.float16), e=np.full(2, 3e4, np.float16),
                     v=np.full((2, 2), 6e4, np.float16))  # fmt: skip
    outcome = EqualizeLayers(("n0",)).run(model, CONTEXT)
    assert "overflow" in outcome.skipped[0].reason


def test_int8_per_tensor_loses_less_behind_it(study: Callable[..., Any]) -> None:
    weights = {"w": uneven(16, 3, 3, 3), "v": RNG.standard_normal((16, 1, 3, 3)).astype(np.float32),
               "z": RNG.standard_normal((8, 16, 1, 1)).astype(np.float32)}  # fmt: skip
    weights["z"] /= np.abs(weights["w"]).max((1, 2, 3)).reshape(1, -1, 1, 1)
    text = (
        "g (float[1, 3, 16, 16] x) => (float[1, 8, 12, 12] y)"
        " { t = Conv(x, w)\n r = Relu(t)\n s = Conv<group=16>(r, v)\n u = Relu(s)\n y = Conv(u, z) }"
    )
    before = study(text, weights)
    model = before.before.fork()
    EqualizeLayers(equalizable(model.ir)).run(model.ir, CONTEXT)
    assert study(model).sqnr() > before.sqnr() + 10


@pytest.mark.parametrize("name", PAIRED)
def test_small_networks_stay_the_same(name: str) -> None:
    model = GRAPHS[name]()
    clean(CONTEXT.target).run(model, CONTEXT)
    infer_shapes(model)
    after = model.clone()
    assert assert_keeps_promises(after, EqualizeLayers(equalizable(model), powers_of_two=False), CONTEXT).changed
    assert_equivalent(model, after, tiny.feeds(model), FP32)
