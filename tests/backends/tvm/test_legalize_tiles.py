"""Models in bfloat16 on tiles against the same models in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper, parser

tvm = pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model  # noqa: E402
from lwc.backends.tvm.machine import Machine  # noqa: E402
from lwc.backends.tvm.pipeline import lower  # noqa: E402
from lwc.backends.tvm.program import compile_program  # noqa: E402
from lwc.compiler.core.model import Model  # noqa: E402
from lwc.compiler.core.target import host  # noqa: E402

MACHINE = Machine.of(host())
SHORT = replace(MACHINE, bfloat16=True)
pytestmark = pytest.mark.skipif(not MACHINE.tiles, reason="this processor multiplies no tiles")

CONV = """<ir_version: 8, opset_import: ["": 17]>
net (float[2, 19, 11, 13] x) => (float[2, 21, 6, 7] y)
<float[21, 19, 3, 3] w, float[21] b> {
    z = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)
    y = Relu(z)
}"""
MATMUL = """<ir_version: 8, opset_import: ["": 17]>
net (float[3, 5, 33] x) => (float[3, 5, 40] y) <float[33, 40] w> { y = MatMul(x, w) }"""


DEPTHWISE = """<ir_version: 8, opset_import: ["": 17]>
net (float[2, 37, 11, 13] x) => (float[2, 37, 6, 13] y)
<float[37, 1, 3, 3] w, float[37] b> {
    z = Conv <group = 37, pads = [1, 1, 1, 1], strides = [2, 1]> (x, w, b)
    y = Relu(z)
}"""


def test_channels_by_themselves_read_bfloat16_and_add_up_float32() -> None:
    model = _filled(DEPTHWISE)
    short, exact = _run(model, SHORT), _run(model, MACHINE)
    rounded = _run(model, MACHINE, lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32))
    assert np.abs(short - exact).max() > 1e-4
    np.testing.assert_allclose(short, rounded, rtol=0, atol=1e-6 * float(np.abs(rounded).max()))


@pytest.mark.parametrize("text", [CONV, MATMUL])
def test_bfloat16_is_near_float_and_on_tiles(text: str) -> None:
    model = _filled(text)
    assert _on_tiles(model, SHORT)
    assert not _on_tiles(model, MACHINE)
    exact, short = (_run(model, machine) for machine in (MACHINE, SHORT))
    assert not np.array_equal(exact, short)
    np.testing.assert_allclose(short, exact, rtol=0, atol=0.01 * float(np.abs(exact).max()))


def test_one_row_stays_in_float() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[1, 64] x) => (float[1, 32] y) <float[64, 32] w> { y = MatMul(x, w) }"""
    assert not _on_tiles(_filled(text), SHORT)


@pytest.mark.parametrize("lead", [(32,), (37,), (1, 48), (2, 16), (2, 5), (3, 2, 8), (2, 1, 16)])
@pytest.mark.parametrize("depth", [64, 40])
def test_what_follows_a_product_of_any_rank_is_stored_with_it(lead: tuple[int, ...], depth: int) -> None:
    shape, out = (", ".join(map(str, (*lead, last))) for last in (depth, 48))
    model = _filled(f"""<ir_version: 8, opset_import: ["": 17]>
    net (float[{shape}] x) => (float[{out}] y) <float[{depth}, 48] w, float[48] b> {{
        p = MatMul(x, w)
        s = Add(p, b)
        y = Relu(s)
    }}""")
    exact, short = (_run(model, machine) for machine in (MACHINE, SHORT))
    np.testing.assert_allclose(short, exact, rtol=0, atol=0.01 * float(np.abs(exact).max()))
    flat = len(lead) < 3 and (len(lead) == 1 or lead[0] == 1 or lead[1] % 16 == 0)
    names = [var.name_hint for var in lower(import_model(model), SHORT).get_global_vars()]
    assert any("tiles" in name and "relu" in name for name in names) == flat


def _filled(text: str) -> Model:
    """The model with random weights for the values that it declares and nothing makes."""
    proto = parser.parse_model(text)
    random = np.random.default_rng(3)
    for info in proto.graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        values = random.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, info.name))
    return Model.from_proto(proto)


def _on_tiles(model: Model, machine: Machine) -> bool:
    return any("tiles" in var.name_hint for var in lower(import_model(model), machine).get_global_vars())


def _run(
    model: Model, machine: Machine, change: Callable[[np.ndarray], np.ndarray] = lambda x: x
) -> np.ndarray:
    shape = [int(dim) for dim in model.graph.inputs[0].shape or ()]
    x = change(np.random.default_rng(5).normal(size=shape).astype(np.float32))
    _, run = compile_program(import_model(model), machine).start()
    return np.asarray(run(tvm.runtime.tensor(x)).numpy())
