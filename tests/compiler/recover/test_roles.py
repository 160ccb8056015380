"""Which initializers learn, and how."""

import pytest

from lwc.compiler.core.model import Model
from lwc.compiler.recover.roles import Role, find_roles
from lwc.models import tiny
from lwc.models.tiny.text import graph


def roles(name: str, everything: bool = False) -> dict[str, Role]:
    return find_roles(Model(tiny.all_graphs()[name](), name), everything)


def test_layers_learn_at_low_rank_and_their_biases_as_a_whole() -> None:
    assert roles("conv") == {"w": Role(whole=False, axis=0), "b": Role(whole=True)}


def test_everything_learns_as_a_whole_when_asked() -> None:
    assert roles("conv", everything=True) == {"w": Role(whole=True), "b": Role(whole=True)}


@pytest.mark.parametrize(
    ("name", "weight", "axis"),
    [("conv_transpose", "w", 1), ("lstm", "w", 1), ("attention_block", "wq", 1), ("conv_depthwise", "w", 0)],
)
def test_the_axis_of_outputs(name: str, weight: str, axis: int) -> None:
    assert roles(name)[weight] == Role(whole=False, axis=axis)


@pytest.mark.parametrize(("turned", "axis"), [(0, 1), (1, 0)])
def test_the_axis_of_outputs_of_gemm(turned: int, axis: int) -> None:
    shape = "4,3" if turned else "3,4"
    build = graph(f"(float[N,3] x) => (float[N,4] y) <float[{shape}] w> {{ y = Gemm <transB = {turned}> (x, w) }}")
    assert find_roles(Model(build(), "gemm"), False) == {"w": Role(whole=False, axis=axis)}


def test_embedding_tables_learn_only_with_everything() -> None:
    assert "table" not in roles("embedding")
    assert roles("embedding", everything=True)["table"] == Role(whole=True)


def test_lone_numbers_integers_and_statistics_stay() -> None:
    assert set(roles("layer_norm_decomposed")) == {"gamma", "beta"}
    assert set(roles("batch_norm")) == {"gamma", "beta"}
    assert roles("clip") == {}
    assert roles("reshape") == {}


def test_masks_stay() -> None:
    build = graph("""(float[N,3] x) => (float[N,3] y) <float[3] mask = {0.0, -10000.0, -1.0e30}, float[3] bias>
        { m = Add(x, mask) y = Add(m, bias) }""")
    assert set(find_roles(Model(build(), "masked"), True)) == {"bias"}


def test_weights_that_branches_read_stay() -> None:
    assert roles("if_of_input", everything=True) == {}


def test_weights_that_callers_may_override_stay() -> None:
    build = graph("(float[N,3] x) => (float[N,4] y) <float[3,4] w> { y = MatMul(x, w) }", weights_are_inputs=True)
    assert find_roles(Model(build(), "open"), True) == {}
