"""A pointwise and a depthwise convolution in one nest, against ONNX Runtime."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

pytest.importorskip("tvm")
pytest.importorskip("onnxruntime")
from lwc.backends.tvm.fused import Fused
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.separable import Chunk
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, difference, functions, graph
from lwc.backends.tvm.tuned import Tuned, numbers
from lwc.compiler.core.target import host

SMALL = {"l2_bytes": 1024}  # beside which every result is large
WIDE, NARROW = replace(Machine.of(host()), **SMALL), replace(NARROW, **SMALL)


def pair(
    size: Sequence[int], channels: Sequence[int], kernel: int = 3, stride: int = 1, pad: int = 1, batch: int = 1
) -> onnx.ModelProto:
    """x, widened with a bias and clipped, filtered with a bias and clipped."""
    random, (few, many) = np.random.default_rng(0), channels
    weights = {
        "w": random.normal(size=(many, few, 1, 1)), "a": random.normal(size=many), "low": np.array(-1.0),
        "v": random.normal(size=(many, 1, kernel, kernel)), "b": random.normal(size=many), "high": np.array(1.5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w", "a"], ["wide"]),
        helper.make_node("Clip", ["wide", "low", "high"], ["clipped"]),
        helper.make_node("Conv", ["clipped", "v", "b"], ["z"], group=many, strides=[stride] * 2, pads=[pad] * 4),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    arrays = {name: np.asarray(array, np.float32) for name, array in weights.items()}
    return graph(nodes, (batch, few, *size), arrays)


def paired(names: Sequence[str]) -> bool:
    """Whether no function has but one of the two."""
    return not any(("depthwise" in name) != (name.count("conv2d") > 1) for name in names if "conv2d" in name)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    height=st.integers(3, 11), width=st.integers(3, 19), few=st.sampled_from([3, 5, 8, 20]),
    many=st.sampled_from([16, 32, 48]), kernel=st.sampled_from([1, 2, 3]), stride=st.integers(1, 3),
    pad=st.integers(0, 1), batch=st.integers(1, 2), machine=st.sampled_from([WIDE, NARROW]),
)  # fmt: skip
def test_any_pair_agrees_with_onnxruntime(
    height: int, width: int, few: int, many: int, kernel: int, stride: int, pad: int, batch: int, machine: Machine
) -> None:
    proto = pair((height, width), (few, many), kernel, stride, min(pad, kernel - 1), batch)
    assert difference(proto, machine) < FP32_SUMS


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_any_chunk_computes_the_same(rows: int, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[object] = []

    def best(self: Tuned, signature: object, candidates: object, cost: object, *, again: bool = False) -> object:
        chosen.append(signature)
        return Chunk(rows) if isinstance(signature, Fused) else plain(self, signature, candidates, cost, again=again)

    plain = Tuned.best
    monkeypatch.setattr(Tuned, "best", best)
    assert difference(pair((7 * stride, 9), (8, 32), stride=stride), WIDE) < FP32_SUMS
    assert any(isinstance(signature, Fused) for signature in chosen)
    assert numbers(Chunk(rows)) == (rows,)


def test_what_lies_between_is_no_function_of_its_own() -> None:
    names = list(functions(pair((12, 12), (8, 32)), WIDE))
    assert any("depthwise" in name for name in names)
    assert paired(names)


def test_a_small_result_is_left_in_the_cache() -> None:
    assert not paired(list(functions(pair((12, 12), (8, 32)), replace(WIDE, l2_bytes=1 << 20))))


def test_a_result_that_others_read_is_made_as_a_whole() -> None:
    proto = pair((12, 12), (8, 32))
    proto.graph.node.append(helper.make_node("Add", ["y", "clipped"], ["sum"]))
    proto.graph.output[0].name = "sum"
    assert not paired(list(functions(proto, WIDE)))
    assert difference(proto, WIDE) < FP32_SUMS


def test_channels_that_end_within_a_tile_stay_apart() -> None:
    proto = pair((12, 12), (8, 37))
    assert not paired(list(functions(proto, WIDE)))
    assert difference(proto, WIDE) < FP32_SUMS
