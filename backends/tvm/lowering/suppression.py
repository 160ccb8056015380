"""NonMaxSuppression with constants for how many boxes are kept, and which."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map, onnx_input

from lwc.backends.tvm.lowering.expressions import Builder, const, constant_array

BOUNDS = ("how many boxes it keeps", "the overlap it allows", "the least score")


def non_max_suppression(bb: Builder, inputs: list[Any], attrs: dict[str, Any], opset: int) -> relax.Expr:
    """NonMaxSuppression: ONNX keeps boxes that overlap as much as is allowed; TVM 0.27 those that do so less.

    Of bounds that are known only when the model runs TVM makes results of the wrong shape.
    """
    bounds = [
        None if value is None else constant_array(value, what) for value, what in zip(inputs[2:5], BOUNDS, strict=False)
    ]
    given = list(inputs)
    if len(bounds) > 1 and bounds[1] is not None:
        given[3] = const(np.nextafter(bounds[1].astype(np.float32), np.float32(np.inf)))
    return _get_convert_map()["NonMaxSuppression"].get_converter(opset)(bb, onnx_input(given), attrs, [{}, {}])


RULES = {"NonMaxSuppression": non_max_suppression}
