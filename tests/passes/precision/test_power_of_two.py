"""For targets that rescale by shifts every scale is a power of two, and the numbers stay close."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwc.compiler.core.plan import Range
from lwc.compiler.core.target import NAMED, read_target
from lwc.passes.precision.integers import Scale, up_to_power_of_two

RNG = np.random.default_rng(3)
CLOSE = 24.0  # dB: steps are up to twice as long as they could be


def draw(*shape: int) -> Any:
    return (RNG.standard_normal(shape) * np.prod(shape[1:]) ** -0.5).astype(np.float32)


CNN = """agraph (float[1,3,16,16] x) => (float[1,10] y) <float low = {0}, float six = {6}, float times = {0.3}>
    { a = Conv <strides = [2,2], pads = [1,1,1,1]> (x, w1, b1) ra = Clip(a, low, six)
      c = Conv <pads = [1,1,1,1]> (ra, w2, b2) rc = Relu(c) s = Add(rc, ra) t = Mul(s, times)
      m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (t)
      g = Sigmoid(m) k = Concat <axis = 1> (m, g) p = AveragePool <kernel_shape = [4,4]> (k) f = Flatten(p)
      h = Gemm(f, w3, b3) y = Tanh(h) }"""
WEIGHTS = {
    "w1": 4 * draw(16, 3, 3, 3), "b1": draw(16), "w2": draw(16, 16, 3, 3), "b2": draw(16), "w3": draw(32, 10),
    "b3": draw(10),
}  # fmt: skip


def scales(study: Any) -> list[Any]:
    """Of all QuantizeLinear and DequantizeLinear nodes."""
    constants = study.initializers()
    nodes = [node for node in study.after.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return [constants[node.inputs[1].name] for node in nodes]


def are_powers_of_two(array: Any) -> bool:
    return bool((np.frexp(np.asarray(array, np.float64))[0] == 0.5).all())


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("reduce_range", [False, True])
def test_every_scale_of_a_cnn_is_a_power_of_two(study: Callable[..., Any], symmetric: bool, reduce_range: bool) -> None:
    options = {"symmetric_activations": symmetric, "reduce_range": reduce_range}
    result = study(CNN, WEIGHTS, power_of_two_scales=True, **options)
    assert len(scales(result)) > 15
    assert all(are_powers_of_two(scale) for scale in scales(result))
    assert result.sqnr() > CLOSE
    assert not all(are_powers_of_two(scale) for scale in scales(study(CNN, WEIGHTS, **options)))


def test_a_clip_that_codes_do_not_end_at_stays(study: Callable[..., Any]) -> None:
    text = """agraph (float[1,4,6,6] x) => (float[1,8,2,2] y) <float low = {0}, float high = {0.3}>
        { c = Conv(x, w1) r = Clip(c, low, high) y = Conv(r, w2) }"""
    result = study(text, {"w1": 9 * draw(8, 4, 3, 3), "w2": draw(8, 8, 3, 3)}, power_of_two_scales=True)
    assert "Clip" in result.ops()
    assert result.sqnr() > CLOSE


@pytest.mark.parametrize("op", ["HardSwish", "HardSigmoid"])
def test_what_clips_at_the_ends_of_its_codes_stays_float(study: Callable[..., Any], op: str) -> None:
    text = f"agraph (float[1,4,6,6] x) => (float[1,8,4,4] y) {{ h = {op}(x) y = Conv(h, w) }}"
    result = study(text, {"w": draw(8, 4, 3, 3)}, power_of_two_scales=True)
    assert op in result.ops()
    assert all(are_powers_of_two(scale) for scale in scales(result))
    assert [skip.site.op for skip in result.outcome.skipped] == [op]


def test_a_large_bias_widens_its_channel_to_a_power_of_two(study: Callable[..., Any]) -> None:
    text = "agraph (float[1,4,6,6] x) => (float[1,8,4,4] y) { y = Conv(x, w, b) }"
    bias = np.full(8, 3e7, np.float32)
    result = study(text, {"w": 1e-3 * draw(8, 4, 3, 3), "b": bias}, power_of_two_scales=True)
    assert all(are_powers_of_two(scale) for scale in scales(result))


@given(st.floats(2.0**-126, 2.0**120))
def test_rounding_up_finds_the_least_power_of_two(number: float) -> None:
    found = float(up_to_power_of_two(number))
    assert found >= number > found / 2
    assert are_powers_of_two(found)


@given(st.floats(-1e3, 0), st.floats(0.01, 1e3), st.booleans(), st.booleans())
def test_a_range_fits_its_codes(low: float, high: float, symmetric: bool, one_sided: bool) -> None:
    """Both ends are within a step of what codes stand for, and zero is a code."""
    scale = Scale.of(Range(low, high), symmetric, one_sided, power_of_two=True)
    limits = np.iinfo(scale.dtype)
    assert limits.min <= scale.zero <= limits.max
    for end in (low, high):
        code = int(scale.codes(end))
        assert abs((code - scale.zero) * scale.step - end) <= scale.step * 1.0001


def test_a_target_file_asks_for_powers_of_two(tmp_path: Path) -> None:
    assert not NAMED["cpu:x86-64-v4"].power_of_two_scales
    (tmp_path / "chip.toml").write_text('base = "cpu:x86-64-v4"\npower_of_two_scales = true\n')
    assert read_target(tmp_path / "chip.toml").power_of_two_scales
