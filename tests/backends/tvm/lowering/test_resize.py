import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.lowering.testing import assert_agrees

X = np.random.default_rng(0).standard_normal((1, 2, 5, 7)).astype(np.float32)
TEXT = """<ir_version: 9, opset_import: ["" : 19]>
agraph (float[1, 2, 5, 7] x) => (float[1, 2, h, w] y) <float[4] scales = {{1.0, 1.0, {h}, {w}}}> {{
    y = Resize <{attributes}> (x, , scales)
}}"""


@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("h", "w"), [(2.0, 2.0), (0.55, 1.3)])
def test_modes_and_scales_that_do_not_divide(coordinates: str, mode: str, h: float, w: float) -> None:
    attributes = f'mode = "{mode}", coordinate_transformation_mode = "{coordinates}"'
    assert_agrees(TEXT.format(h=h, w=w, attributes=attributes), {"x": X})


def test_antialiased_shrinking() -> None:
    assert_agrees(TEXT.format(h=0.5, w=0.6, attributes='mode = "linear", antialias = 1'), {"x": X})
