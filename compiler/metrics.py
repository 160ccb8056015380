"""Accuracy metrics: by name, by module:attribute, or any callable or class of the user's. Higher is better."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.accumulate import is_float
from lwc.compiler.core.errors import BadCalibration, UsageError

Array = NDArray[Any]
Outputs = Mapping[str, Array]
Sample = Mapping[str, Array]


class StreamingMetric(Protocol):
    """A metric over a whole set, such as an area under a curve."""

    def update(self, outputs: Outputs, sample: Sample) -> None: ...
    def compute(self) -> float: ...


@dataclass(frozen=True)
class Metric:
    """What the accuracy budget is counted in.

    score: score of one sample from (outputs, sample, the original model's outputs); the metric is the mean
    streaming: makes a fresh StreamingMetric, for metrics that are no mean over samples; one of the two is set
    identity: tells metrics of one name apart in caches
    """

    name: str
    score: Callable[[Outputs, Sample, Outputs], float] | None = None
    streaming: Callable[[], StreamingMetric] | None = None
    identity: str = ""


def find_metric(metric: object, class_outputs: Sequence[str] = ()) -> Metric:
    """Resolve what the user gave: a name, 'module:attr', a function, or a class.

    class_outputs: names of the outputs that are scores over classes (for 'fidelity').
    Raises UsageError.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric == "fidelity":
            return Metric("fidelity", _Fidelity(frozenset(class_outputs)))
        if metric in _NAMED:
            return Metric(metric, _NAMED[metric])
        if ":" in metric:
            return _from_object(metric, _load_attribute(metric))
        known = ", ".join(("fidelity", *_NAMED))
        raise UsageError(f"Unknown metric '{metric}'.", f"Use one of {known}, or module:attribute.")
    return _from_object(getattr(metric, "__name__", type(metric).__name__), metric)


def _load_attribute(reference: str) -> object:
    module, _, attribute = reference.partition(":")
    try:
        return cast(object, getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"Metric '{reference}' cannot be loaded: {error}.") from error


def _from_object(name: str, found: object) -> Metric:
    if isinstance(found, Metric):
        return found
    if isinstance(found, type):
        if not (hasattr(found, "update") and hasattr(found, "compute")):
            raise UsageError(f"Metric class '{name}' needs the methods update(outputs, sample) and compute().")
        return Metric(name, streaming=cast("Callable[[], StreamingMetric]", found), identity=_identity(found))
    if callable(found):
        function = found
        return Metric(
            name, lambda outputs, sample, _: float(function(dict(outputs), dict(sample))), identity=_identity(found)
        )
    raise UsageError(f"Metric '{name}' is neither a function nor a class.")


def _identity(found: object) -> str:
    """Where the user's metric lives and what its source says, so that a changed one is measured anew."""
    try:
        source = inspect.getsource(cast(Any, found))
    except (OSError, TypeError):
        source = repr(getattr(getattr(found, "__code__", None), "co_code", None))
    place = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', type(found).__qualname__)}"
    return f"{place}:{hashlib.sha256(source.encode()).hexdigest()[:16]}"


def top1(outputs: Outputs, sample: Sample, original: Outputs) -> float:
    """Share of positions where the predicted class is the label.

    Predicted is what a first output of integers or text says, one for each label (classifiers of scikit-learn return
    such beside their scores); else argmax over the last axis of the first output of floats.
    """
    label = np.asarray(_label(sample))
    predicted = _predicted(list(outputs.values()), label.size)
    if predicted.size != label.size:
        raise BadCalibration(
            f"top1 compares {predicted.size} predictions with {label.size} labels.",
            "Give one label per predicted position, in an array named 'label'.",
        )
    return float(np.mean(predicted == label.reshape(-1)))


def _predicted(outputs: Sequence[Array], labels: int) -> Array:
    first = np.asarray(outputs[0])
    if first.dtype.kind in "iuOU" and first.size == labels:
        return first.reshape(-1)
    scores = next((array for array in outputs if is_float(np.asarray(array).dtype)), first)
    return np.asarray(scores.argmax(-1).reshape(-1))


def _label(sample: Sample) -> Array:
    for name in ("label", "labels", "y", "target"):
        if name in sample:
            return sample[name]
    raise BadCalibration(
        "Metric top1 found no labels in the calibration samples.",
        "Add an array named 'label' to each sample, or use --metric fidelity.",
    )


def cosine(outputs: Outputs, sample: Sample, original: Outputs) -> float:
    """Mean over outputs of the cosine between the compiled and the original model's values."""
    return float(np.mean([cosine_similarity(original[name], outputs[name]) for name in original]))


def mse(outputs: Outputs, sample: Sample, original: Outputs) -> float:
    """Minus the mean squared difference to the original's outputs, mean over outputs."""
    return -float(np.mean([np.mean(np.square(_float(original[name]) - _float(outputs[name]))) for name in original]))


@dataclass(frozen=True)
class _Fidelity:
    """Agreement with the original: of argmax where an output is scores over classes, else of values.

    Of values: 1 - ||y - y'||^2 / ||y - mean(y)||^2, the share of variance kept, not below -1.
    """

    class_outputs: frozenset[str]

    def __call__(self, outputs: Outputs, sample: Sample, original: Outputs) -> float:
        return float(np.mean([self._agreement(name, original[name], outputs[name]) for name in original]))

    def _agreement(self, name: str, want: Array, got: Array) -> float:
        if want.shape != got.shape:
            return 0.0
        if want.size == 0:
            return 1.0
        if name in self.class_outputs:
            return float(np.mean(want.argmax(-1) == got.argmax(-1)))
        if not np.issubdtype(want.dtype, np.number) or np.issubdtype(want.dtype, np.integer):
            return float(np.mean(want == got))
        return max(-1.0, variance_kept(want, got))


_NAMED: dict[str, Callable[[Outputs, Sample, Outputs], float]] = {"top1": top1, "cosine": cosine, "mse": mse}


def variance_kept(want: Array, got: Array) -> float:
    """1 - ||want - got||^2 / ||want - mean(want)||^2; values that are not finite must agree in place."""
    want, got = _float(want), _float(got)
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)):
        return -1.0
    want, got = want[finite], got[finite]
    noise = float(np.sum(np.square(want - got)))
    if noise == 0.0:
        return 1.0
    spread = float(np.sum(np.square(want - want.mean())))
    return 1.0 - noise / (spread or float(np.sum(np.square(want))) or noise / 2)


def cosine_similarity(want: Array, got: Array) -> float:
    """Cosine of the angle between two arrays; 1 when both are zero."""
    a, b = _float(want).ravel(), _float(got).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0.0:
        return float(np.array_equal(a, b))
    return float(np.clip(a @ b / norms, -1.0, 1.0))


def _float(array: Array) -> NDArray[np.float64]:
    return np.asarray(array).astype(np.float64)
