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
from tvm import te

from lwc.backends.tvm import schedules
from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.legalize_winograd import pack, winograd
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.conv_plan import Conv
from lwc.backends.tvm.schedules.winograd import winograd_convolution
from lwc.backends.tvm.schedules.winograd_plan import Winograd, candidates
from lwc.backends.tvm.tasks import find_tasks
from lwc.backends.tvm.testing import FP32_SUMS, NARROW, computed, difference, functions, graph
from lwc.backends.tvm.tuned import Tuned, numbers
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host

WIDE = Machine.of(host())
RUNS = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def conv(batch: int, size: tuple[int, int], inputs: int, outputs: int, pads: Sequence[int]) -> Conv:
    (height, width), (top, left, bottom, right) = size, pads
    out = height + top + bottom - 2, width + left + right - 2
    return Conv(batch, height, width, inputs, *out, outputs, 3, 3, 1, 1, top, left, 1, 1, 1)


def model(layer: Conv, *, residual: bool = False) -> onnx.ModelProto:
    """The convolution with a bias, a residual and an activation."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(layer.out_channels, layer.channels, 3, 3)).astype("float32"),
        "b": rng.normal(size=layer.out_channels).astype("float32"),
    }
    bottom = layer.out_height + 2 - layer.height - layer.top
    right = layer.out_width + 2 - layer.width - layer.left
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[layer.top, layer.left, bottom, right]),
        helper.make_node("Add", ["c", "x" if residual else "c"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    return graph(nodes, (layer.batch, layer.channels, layer.height, layer.width), weights)


def choosing(machine: Machine, layer: Conv, choice: Winograd) -> Machine:
    return replace(machine, tuned=Tuned(((repr(layer), numbers(choice)),)))


def chosen(proto: onnx.ModelProto, machine: Machine) -> object:
    (task,) = find_tasks(import_model(Model.from_proto(proto, "kernel")), machine)
    return task.chosen


@pytest.mark.parametrize("machine", [WIDE, NARROW], ids=["wide", "narrow"])
@RUNS
@given(data=st.data())
def test_any_convolution_agrees_with_onnxruntime(machine: Machine, data: st.DataObject) -> None:
    sizes, channels = st.tuples(*[st.integers(2, 13)] * 2), st.integers(max(machine.lanes, 5), 40)
    pads = data.draw(st.tuples(*[st.integers(1, 3)] * 4))
    layer = conv(data.draw(st.integers(1, 2)), data.draw(sizes), data.draw(channels), data.draw(channels), pads)
    choice = data.draw(st.sampled_from(list(candidates(layer, machine))))
    machine = choosing(machine, layer, choice)
    assert chosen(model(layer), machine) == choice
    assert difference(model(layer), machine) < FP32_SUMS


@pytest.mark.parametrize("l2_bytes", [1 << 14, 1 << 22], ids=["tiles shared out", "weights shared out"])
@pytest.mark.parametrize("choice", [Winograd(2, 7, 2, 16, 7), Winograd(4, 5, 1, 16, 5)])
def test_bias_residual_and_activation_are_in_the_store(choice: Winograd, l2_bytes: int) -> None:
    machine = replace(WIDE, vector_bytes=64, l2_bytes=l2_bytes) if WIDE.lanes == 16 else pytest.skip("AVX-512")
    layer = conv(2, (9, 11), 32, 32, (1, 1, 1, 1))
    machine = choosing(machine, layer, choice)
    proto = model(layer, residual=True)
    assert chosen(proto, machine) == choice
    assert choice.shared(layer, machine) == (l2_bytes == 1 << 22)
    assert difference(proto, machine) < FP32_SUMS
    kernels = [func.script() for name, func in functions(proto, machine).items() if "conv2d" in name]
    assert len(kernels) == 1
    assert "T.sblock(" not in kernels[0].replace('T.sblock("root")', "")


@pytest.mark.parametrize("size", [2, 4])
def test_what_no_schedule_knows_is_the_same_convolution(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition by itself, as a function whose epilogue is unknown would be computed."""
    layer, choice = conv(1, (5, 6), 4, 6, (1, 0, 1, 2)), Winograd(size, 2, 1, 4, 2)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 5, 6, 4), np.float32)
    w = rng.standard_normal((6, 3, 3, 4), np.float32)
    arrays = x, pack(w, choice)
    tensors = [te.placeholder(array.shape, "float32", name=name) for array, name in zip(arrays, "xw", strict=True)]
    tensors.append(winograd(*tensors, layer, choice))
    written = computed(tensors, arrays, NARROW)
    monkeypatch.setattr(schedules, "RULES", tuple(rule for rule in schedules.RULES if rule != winograd_convolution))
    defined = computed(tensors, arrays, NARROW)
    padded = np.pad(x, [(0, 0), (1, 1), (0, 2), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    want = np.einsum("nyxcij,oijc->nyxo", windows, w)
    for got in (written, defined):
        np.testing.assert_allclose(got, want, atol=FP32_SUMS * np.abs(want).max())
