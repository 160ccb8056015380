import math

import numpy as np

from lwc.compiler.core.plain import finite


def test_numpy_numbers_become_plain_ones() -> None:
    assert finite({"a": np.float32(0.5), "b": (np.int64(3), np.nan), "c": True}) == {
        "a": 0.5,
        "b": [3, None],
        "c": True,
    }


def test_infinities_become_null_wherever_they_are() -> None:
    assert finite({"a": [math.inf, {"b": (-math.inf, 1.5)}]}) == {"a": [None, {"b": [None, 1.5]}]}
