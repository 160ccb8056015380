import numpy as np
import pytest

pytest.importorskip("tvm")
from lwc.backends.tvm.legalize_winograd import LARGEST_ERROR, choice, error, pack
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.conv_plan import Conv, Tile
from lwc.backends.tvm.schedules.winograd_filter import minimal
from lwc.backends.tvm.schedules.winograd_plan import Winograd
from lwc.compiler.core.target import NAMED

CONV = Conv(1, 56, 56, 64, 56, 56, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1)
MACHINE = Machine.of(NAMED["cpu:x86-64-v4"])


def weights(outputs: int, inputs: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((outputs, 3, 3, inputs), np.float32)


@pytest.mark.parametrize("outputs", [32, 40])
def test_panels_hold_transformed_weights_and_end_with_the_last_channel(outputs: int) -> None:
    weight = weights(outputs, 5)
    packed = pack(weight, Winograd(4, 2, 2, 16, 2))
    assert packed.shape == (-(-outputs // 32), 36, 5, 32)
    to = minimal(4).weight
    for o in range(outputs):
        panel = o // 32
        start = min(panel * 32, outputs - 32)
        for c in range(5):
            want = to @ weight[o, :, :, c].astype(np.float64) @ to.T
            np.testing.assert_allclose(packed[panel, :, c, o - start], want.ravel(), rtol=1e-6)


def test_usual_weights_are_filtered_within_the_tolerance_of_sums_in_another_order() -> None:
    assert error(weights(64, 64), 2) < error(weights(64, 64), 4) < LARGEST_ERROR / 2
    assert isinstance(choice(CONV, weights(64, 64), MACHINE), Winograd)


@pytest.mark.parametrize("scale", [1e-42, 1e37, np.nan], ids=["denormal", "almost infinite", "no numbers"])
def test_weights_that_lose_digits_in_one_channel_are_left_alone(scale: float) -> None:
    weight = weights(64, 64)
    weight[0] *= np.float32(scale)
    assert isinstance(choice(CONV, weight, MACHINE), Tile)
