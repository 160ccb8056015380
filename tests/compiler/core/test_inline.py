"""A model written weight by weight reads as the same model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lwc.compiler.core.inline import write_inline
from lwc.compiler.core.model import Model
from lwc.compiler.testing import HEADER
from lwc.models import digits


def written(model: ir.Model) -> bytes:
    file = io.BytesIO()
    write_inline(model, file)
    return file.getvalue()


@pytest.mark.parametrize("kind", digits.KINDS)
def test_nothing_is_lost(kind: digits.Kind, tmp_path: Path) -> None:
    model = Model.open(digits.path(kind))
    path = tmp_path / "copy.onnx"
    path.write_bytes(written(model.ir))
    onnx.checker.check_model(path, full_check=True)
    assert Model.open(path).digest() == model.digest()


@pytest.mark.parametrize("count", [255, 256, 257, 20000])
def test_sizes_around_those_that_stay_in_the_graph_are_kept(count: int) -> None:
    proto = onnx.parser.parse_model(f"{HEADER} g (float[N] x) => (float[N] y) {{ y = Add(x, w) }}")
    array = np.arange(count, dtype=np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(array, "w"))
    found = onnx.ModelProto.FromString(written(ir.from_proto(proto)))
    np.testing.assert_array_equal(numpy_helper.to_array(found.graph.initializer[0]), array)


def test_tensors_are_asked_for_once_and_in_turn() -> None:
    asked: list[str] = []

    def lazy(name: str) -> ir.LazyTensor:
        def make() -> ir.TensorProtocol:
            asked.append(name)
            return ir.tensor(np.zeros(1000, np.float32))

        return ir.LazyTensor(make, ir.DataType.FLOAT, shape=ir.Shape([1000]), name=name)

    proto = onnx.parser.parse_model(f"{HEADER} g (float[N] x) => (float[N] y) {{ a = Add(x, v) y = Add(a, w) }}")
    for name in "vw":
        proto.graph.initializer.append(numpy_helper.from_array(np.zeros(1000, np.float32), name))
    model = ir.from_proto(proto)
    for name in "vw":
        model.graph.initializers[name].const_value = lazy(name)
    written(model)
    assert asked == ["v", "w"]
