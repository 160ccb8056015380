from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("openvino")

import openvino as ov

from lwc.backends.openvino import compiled
from lwc.backends.openvino.compiled import STATIC_MODELS, STEADY_RUNS, WITHOUT_INT8, Executable, Executables
from lwc.backends.openvino.session import read, settings
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import NAMED

OPTIONS = settings(NAMED["cpu:x86-64-v4"].with_threads(1), "")


def executables(shape: str, body: str = "y = Sin (x)", weights: str = "", *, ready: bool = True) -> Executables:
    graph = f"agraph (float[{shape}] x) => (float[{shape}] y) {weights} {{ {body} }}"
    text = f'<ir_version: 8, opset_import: ["" : 17]>\n{graph}'
    return Executables(read(Model.from_proto(onnx.parser.parse_model(text))), OPTIONS, ready=ready)


def of_rows(found: Executables, rows: int) -> Executable:
    return found.of(((rows, 4),))


def test_fixed_shapes_need_one_model() -> None:
    found = executables("2,4")
    assert all(of_rows(found, 2) is found.any_shapes for _ in range(STEADY_RUNS + 1))


def test_shapes_that_keep_coming_get_a_model_of_their_own() -> None:
    found = executables("n,4")
    used = [of_rows(found, 3) for _ in range(STEADY_RUNS + 1)]
    assert used[: STEADY_RUNS - 1] == [found.any_shapes] * (STEADY_RUNS - 1)
    assert used[STEADY_RUNS - 1] is not found.any_shapes
    assert used[STEADY_RUNS] is used[STEADY_RUNS - 1]
    assert not used[STEADY_RUNS].model.inputs[0].get_partial_shape().is_dynamic


def test_changing_shapes_share_one_model() -> None:
    found = executables("n,4")
    assert all(of_rows(found, 1 + k % 2) is found.any_shapes for k in range(4 * STEADY_RUNS))


def test_without_haste_the_first_shapes_get_the_only_model_until_others_come() -> None:
    found = executables("n,4", ready=False)
    own = of_rows(found, 3)
    assert own.model.inputs[0].get_partial_shape().is_static
    assert all(of_rows(found, 3) is own for _ in range(STEADY_RUNS))
    assert found.general is None
    other = of_rows(found, 2)
    assert other is found.any_shapes
    assert other.model.inputs[0].get_partial_shape().is_dynamic
    assert of_rows(found, 3) is own


def test_the_model_used_least_recently_goes() -> None:
    found = executables("n,4")
    own = {rows: [of_rows(found, rows) for _ in range(STEADY_RUNS)][-1] for rows in range(1, STATIC_MODELS + 2)}
    assert of_rows(found, STATIC_MODELS + 1) is own[STATIC_MODELS + 1]
    assert of_rows(found, 1) is found.any_shapes


def test_shapes_that_do_not_fit_are_refused_each_time() -> None:
    found = executables("n,m", "y = MatMul (x, x)")
    for _ in range(2):
        with pytest.raises(RuntimeError):
            found.of(((2, 3),))
    assert found.of(((3, 3),)) is found.any_shapes


def test_own_model_computes_the_same() -> None:
    found = executables("n,4")
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    results = [of_rows(found, 2).request.infer([x])[0].copy() for _ in range(STEADY_RUNS)]
    np.testing.assert_allclose(results[-1], results[0], rtol=1e-6)


QUANTIZED = """q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    y = Sin (d)"""


class Failing(Executable):
    """OpenVINO's transformations for int8 fail on every graph of known shapes."""

    def __init__(self, graph: ov.Model, options: Mapping[str, Any]) -> None:
        if not graph.is_dynamic() and not options.keys() >= WITHOUT_INT8.keys():
            raise RuntimeError("Exception during low precision transformation")
        super().__init__(graph, options)


def quantized(shape: str) -> Executables:
    return executables(shape, QUANTIZED, "<float s = {0.1}, uint8 z = {0}>")


def test_graph_that_int8_fails_on_is_compiled_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "Executable", Failing)
    found = of_rows(quantized("2,4"), 2).request.infer([np.full((2, 4), 0.31, np.float32)])[0]
    np.testing.assert_allclose(found, np.sin(np.full((2, 4), 0.3, np.float32)), rtol=1e-5)


def test_other_graph_that_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "Executable", Failing)
    with pytest.raises(RuntimeError):
        executables("2,4")


def test_shapes_that_fail_on_their_own_stay_with_the_model_for_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "Executable", Failing)
    found = quantized("n,4")
    assert all(of_rows(found, 2) is found.any_shapes for _ in range(STEADY_RUNS + 1))
