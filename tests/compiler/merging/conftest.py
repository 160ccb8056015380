"""Small models of one architecture, as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lwc.models.structures import resnet18

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """draw(name, seed, **shapes of other weights): y = relu(x w + b) v, written to name.onnx."""

    def write(name: str, seed: int, *, dtype: type = np.float32, opset: int = 17, **shapes: tuple[int, ...]) -> Path:
        rng = np.random.default_rng(seed)
        kind = {np.float32: "float", np.float16: "float16"}[dtype]
        proto = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : {opset}]> g ({kind}[N, 30] x) => ({kind}[N, M] y) '
            "{ a = MatMul(x, w) c = Add(a, b) d = Relu(c) y = MatMul(d, v) }"
        )
        for weight, shape in {"w": (30, 40), "b": (40,), "v": (40, 20), **shapes}.items():
            proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(dtype), weight))
        path = tmp_path / f"{name}.onnx"
        onnx.save(proto, path)
        return path

    return write


@pytest.fixture
def resnet(tmp_path: Path) -> Draw:
    """resnet(name, seed, fold): a small ResNet-18, its BatchNorms folded or not."""

    def write(name: str, seed: int, fold: bool) -> Path:
        path = tmp_path / f"{name}.onnx"
        onnx.save(resnet18(size=32, classes=10, seed=seed, fold=fold), path)
        return path

    return write
