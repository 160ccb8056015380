"""Make one calibration sample fit a model's inputs, or say in one sentence why it does not.

Types are converted where every value survives: between floats (values that overflow are refused), between
integers and bool where they fit. Integers are not taken for floats: pixels need their normalisation first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.accumulate import is_float
from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import BadCalibration

Array = NDArray[Any]

# Recurrent state and key-value caches: zeros when synthesized, and allowed to be empty (no past yet).
STATE = re.compile(r"state|hidden|past|cache|memory|(^|[^a-z])[hc](0|n|_?in|_?prev)?$", re.IGNORECASE)


def fit(sample: object, inputs: Sequence[Port], origin: str) -> dict[str, Array]:
    """The sample's arrays: inputs of the model's own types, then all others (labels) as they are.

    origin: what errors call the sample. Raises BadCalibration.
    """
    if not isinstance(sample, Mapping):
        raise BadCalibration(
            f"{origin} is a {type(sample).__name__}, not a dict of input name -> array.",
            f"Give {_names([port.name for port in inputs])}.",
        )
    fitted: dict[str, Array] = {}
    for port in inputs:
        if port.name not in sample:
            raise missing(port.name, [str(name) for name in sample], inputs, origin)
        fitted[port.name] = _fit_input(sample[port.name], port, f"{origin}: input '{port.name}'")
    for name, value in sample.items():
        if name not in fitted:
            fitted[str(name)] = _array(value, f"{origin}: '{name}'")
    return fitted


def missing(name: str, given: Sequence[str], inputs: Sequence[Port], origin: str) -> BadCalibration:
    """The error for an input that has no array."""
    wanted = _names([port.name for port in inputs])
    return BadCalibration(
        f"{origin} has no array for input '{name}'; it holds {_names(given) or 'nothing'}.",
        f"Name the arrays after the model's inputs: {wanted}.",
    )


def _fit_input(value: object, port: Port, what: str) -> Array:
    if port.dtype == np.object_:
        return _strings(value, what)
    array = _array(value, what)
    if array.ndim != len(port.shape) or any(
        isinstance(want, int) and want != have for want, have in zip(port.shape, array.shape, strict=True)
    ):
        wanted = "[" + ", ".join(str(size) for size in port.shape) + "]"
        raise BadCalibration(f"{what} has shape {list(array.shape)}; the model takes {wanted}.", _hint(array, port))
    if array.size == 0 and not STATE.search(port.name):
        raise BadCalibration(f"{what} is empty: its shape is {list(array.shape)}.", "Give at least one value.")
    cast = _cast(array, port.dtype)
    if cast is None:
        raise BadCalibration(
            f"{what} holds {_kind(array)}; the model takes {port.dtype}.",
            f"Convert the array to {port.dtype}, with the scaling the model was trained with.",
        )
    if is_float(cast.dtype) and not np.isfinite(cast).all():
        reason = f"values too large for {port.dtype}" if np.isfinite(array).all() else "NaN or infinite values"
        raise BadCalibration(f"{what} holds {reason}.", "Leave such samples out, or repair them.")
    return cast


def _array(value: object, what: str) -> Array:
    try:
        array = np.asarray(value)
    except Exception as error:  # ragged lists, foreign tensors that refuse conversion
        raise BadCalibration(f"{what} is no array ({error}).", "Give NumPy arrays.") from error
    if array.dtype == np.object_ and not all(isinstance(item, str) for item in array.ravel().tolist()):
        raise BadCalibration(f"{what} holds Python objects.", "Give arrays of numbers, booleans or strings.")
    return array


def _strings(value: object, what: str) -> Array:
    """Strings as ONNX Runtime takes them."""
    array = _array(value, what)
    if array.dtype.kind not in "USO":
        raise BadCalibration(
            f"{what} holds {array.dtype}; the model takes strings or a sequence.",
            "Give an array of strings; lwc cannot calibrate inputs that are sequences.",
        )
    return array.astype(np.object_)


def _cast(array: Array, dtype: np.dtype[Any]) -> Array | None:
    """The array as `dtype`, or None when that would change a value or its meaning."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind == "V" and dtype.kind == "V" and array.dtype.itemsize == dtype.itemsize:
        return array.view(dtype)  # what np.save makes of bfloat16
    if is_float(array.dtype) and is_float(dtype):
        with np.errstate(over="ignore"):
            return array.astype(dtype)
    if array.dtype.kind not in "iub" or dtype.kind not in "iub" or array.size == 0:
        return array.astype(dtype) if array.size == 0 else None
    low, high = int(array.min()), int(array.max())
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return array.astype(dtype) if limits[0] <= low and high <= limits[1] else None


def _kind(array: Array) -> str:
    if array.dtype.kind in "iu" and array.size:
        return f"{array.dtype} from {array.min()} to {array.max()}"
    return str(array.dtype)


def _hint(array: Array, port: Port) -> str:
    if array.ndim + 1 == len(port.shape):
        return "One axis is missing: the batch of a single sample (array[None]), or the channels."
    if array.ndim == len(port.shape):
        return "Resize or transpose the array."
    return f"Give an array of {len(port.shape)} axes."


def _names(names: Sequence[str]) -> str:
    shown = [f"'{name}'" for name in names[:8]]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
