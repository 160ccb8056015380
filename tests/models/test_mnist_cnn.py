"""The digit reader rebuilt from its checkpoint computes what its five layers say."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from lwc.compiler.core.errors import BadInput
from lwc.models.mnist_cnn import mnist_cnn

SHAPES = {
    "conv_layers.0": (32, 1, 3, 3),
    "conv_layers.3": (64, 32, 3, 3),
    "conv_layers.6": (128, 64, 3, 3),
    "fc_layers.0": (256, 1152),
    "fc_layers.2": (10, 256),
}


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {}
    for layer, shape in SHAPES.items():
        made[f"{layer}.weight"] = (rng.standard_normal(shape) * 0.05).astype(np.float32)
        made[f"{layer}.bias"] = rng.standard_normal(shape[0]).astype(np.float32) * np.float32(0.1)
    return made


def by_hand(state: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    for layer in ("conv_layers.0", "conv_layers.3", "conv_layers.6"):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        x = np.einsum("ncijuv,ocuv->noij", windows, state[f"{layer}.weight"])
        x = np.maximum(x + state[f"{layer}.bias"][:, None, None], 0.0)
        even = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
        x = even.reshape(*x.shape[:2], even.shape[2] // 2, 2, even.shape[3] // 2, 2).max(axis=(3, 5))
    x = x.reshape(len(x), -1) @ state["fc_layers.0.weight"].T + state["fc_layers.0.bias"]
    return np.maximum(x, 0.0) @ state["fc_layers.2.weight"].T + state["fc_layers.2.bias"]


def test_computes_what_the_layers_say() -> None:
    state = weights()
    model = mnist_cnn(state)
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(1).standard_normal((2, 1, 28, 28)).astype(np.float32)
    (logits,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(logits, by_hand(state, x), rtol=1e-4, atol=1e-4)


def test_names_the_weights_that_are_missing() -> None:
    state = weights()
    del state["fc_layers.2.bias"]
    with pytest.raises(BadInput, match=r"lacks fc_layers\.2\.bias"):
        mnist_cnn(state)
