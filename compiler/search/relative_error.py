"""How far outputs are from those wanted, relative to their power."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.metrics import Outputs


def relative_error(want: Outputs, got: Outputs, least: Mapping[str, float] | None = None) -> float:
    """Mean over numeric outputs of ||want - got||^2 / power(want), at most 1e3 each.

    least: output -> power that it has at least
    """
    errors = []
    for name, expected in numeric(want).items():
        found = got[name]
        if found.shape != expected.shape:
            errors.append(1.0)
            continue
        finite = np.isfinite(expected)
        if not finite.all():
            expected, found = expected[finite], found[finite]
        error = np.subtract(expected, found, dtype=np.float64).ravel()
        noise = float(error @ error)
        if not np.isfinite(noise):
            errors.append(1e3)
        elif noise > 0.0:
            errors.append(min(1e3, noise / max(power(expected), (least or {}).get(name, 0.0))))
        else:
            errors.append(0.0)
    return float(np.mean(errors)) if errors else 0.0


def numeric(outputs: Outputs) -> dict[str, NDArray[Any]]:
    """The outputs that are arrays of floating numbers."""
    return {
        name: output
        for name, output in outputs.items()
        if isinstance(output, np.ndarray) and np.issubdtype(output.dtype, np.floating)
    }


def power(output: NDArray[Any]) -> float:
    """||a - mean(a)||^2 of the finite numbers, above 0; a single value does not vary: it counts as it is."""
    finite = np.isfinite(output)
    numbers = (output if finite.all() else output[finite]).astype(np.float64).ravel()
    centered = numbers - (numbers.mean() if numbers.size > 1 else 0.0)
    return max(float(centered @ centered), 1e-12 * max(1.0, float(numbers @ numbers)))
