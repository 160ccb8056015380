"""Values as JSON can hold them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def finite(data: Any) -> Any:
    """The same values in JSON's types: null for infinities and NaN, sets as sorted lists."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    if isinstance(data, (set, frozenset)):
        return sorted(finite(value) for value in data)
    if isinstance(data, np.generic):
        return finite(data.item())
    return None if isinstance(data, float) and not math.isfinite(data) else data
