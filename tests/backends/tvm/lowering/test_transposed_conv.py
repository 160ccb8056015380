import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.lowering.testing import assert_agrees


@pytest.mark.parametrize(
    "attributes",
    [
        "strides = [2, 2]",
        "strides = [3, 2], pads = [1, 0, 2, 1], output_padding = [2, 1]",
        "strides = [2, 1], dilations = [2, 3]",
        "strides = [2, 2], group = 2",
        'strides = [2, 3], auto_pad = "SAME_LOWER"',
        "strides = [3, 2], output_shape = [13, 8]",
    ],
)
def test_agrees_with_onnxruntime(attributes: str) -> None:
    rng = np.random.default_rng(0)
    outer, made = (2, 4) if "group" in attributes else (3, 3)
    inputs = f"float[1, 4, 4, 5] x, float[4, {outer}, 3, 2] w, float[{made}] b"
    text = f"agraph ({inputs}) => (float[a, b, c, d] y) {{ y = ConvTranspose <{attributes}> (x, w, b) }}"
    shapes = {"x": (1, 4, 4, 5), "w": (4, outer, 3, 2), "b": (made,)}
    assert_agrees(text, {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})
