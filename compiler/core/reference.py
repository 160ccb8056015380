"""One operator computed by ONNX's reference implementation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx.reference.ops


def computed(
    operator: str, version: int, inputs: Sequence[Any], count: int, attributes: Mapping[str, Any]
) -> list[Any] | None:
    """What an operator of the standard domain gives, in the implementation's own types; None where it refuses.

    version: opset;  inputs: arrays, None for those left out;  count: of outputs that the node names
    """
    try:
        found = onnx.reference.ops.load_op("", operator, version)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = found.eval(*inputs, n_outputs=count, **attributes)
    except Exception:  # it raises whatever NumPy does
        return None
    return list(results) if isinstance(results, (tuple, list)) else [results]
