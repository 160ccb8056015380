"""Recovery without labels: a pruned float model is taught what the original answers. Imports no torch itself."""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.cache import Cache
from lwc.compiler.core.errors import MissingDependency, UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Progress, Silent
from lwc.compiler.data import Calibration
from lwc.compiler.recover.feeds import Feeds
from lwc.compiler.recover.settings import Settings

Array = NDArray[Any]


@dataclass(frozen=True)
class Recovery:
    """What came of it.

    before, after: fidelity to the original on samples that were held out of the learning;  seconds: spent on it
    """

    model: Model
    before: float
    after: float
    seconds: float

    @property
    def note(self) -> str:
        """One sentence for the report."""
        return f"Recovery took the fidelity from {self.before:.4f} to {self.after:.4f} in {self.seconds:.0f} s."


def refuse_recovery(model: Model) -> None:
    """Raise MissingDependency without PyTorch, UnsupportedOperator naming a node that it cannot compute."""
    if importlib.util.find_spec("torch") is None:
        raise MissingDependency(
            "--recover needs PyTorch, which is not installed.", "Run: pip install 'lwc-compiler[recover]'"
        )
    from lwc.compiler.recover.program import refusal

    reason = refusal(model)
    if reason:
        raise UnsupportedOperator(reason, "Leave --recover out.")


def recover(
    student: Model,
    teacher: Model,
    feeds: Feeds,
    minutes: float,
    *,
    scores: Collection[str] = (),
    keep: Mapping[tuple[str, int], NDArray[np.bool_]] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    cache: Cache | None = None,
    settings: Settings | None = None,
) -> Recovery:
    """A fork of the student whose scales, biases and weights were taught the teacher's answers on the feeds.

    student: float, canonicalized;  teacher: the same before pruning: values of the same name mean the same
    feeds: samples, labels beside inputs are ignored; a fifth of them is held out to choose the best weights by
    scores: outputs that are scores over classes, compared as such
    keep: (value, axis) -> which of the teacher's places the student still has
    cache: where the best is kept between runs; a run goes on where the one before ended

    Raises MissingDependency, UnsupportedOperator. Ctrl-C ends the learning and gives the best so far.
    """
    refuse_recovery(student)
    from lwc.compiler.recover.start import taught

    settings = settings or Settings()
    key = (student.digest(), teacher.digest(), _digest(feeds), sorted(scores), seed, replace(settings, threads=1))
    start = time.perf_counter()
    weights, before, after = taught(
        student, teacher, feeds, 60 * minutes, scores, keep or {}, seed, progress or Silent(), cache or Cache(None),
        key, settings,
    )  # fmt: skip
    return Recovery(with_weights(student, weights), before, after, time.perf_counter() - start)


def with_weights(model: Model, weights: Mapping[str, Array]) -> Model:
    """A fork with other numbers in initializers of these names; types, names and metadata stay."""
    found = model.fork()
    for name, array in weights.items():
        value = found.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(array.astype(value.const_value.dtype.numpy()), name=name)
    return found


def _digest(feeds: Feeds) -> str:
    if isinstance(feeds, Calibration):
        return feeds.digest()
    h = hashlib.sha256()
    for sample in (feeds[k] for k in range(len(feeds))):
        for name in sorted(sample):
            array = np.ascontiguousarray(sample[name])
            h.update(f"{name} {array.dtype} {array.shape} ".encode())
            h.update(array.tobytes())
    return h.hexdigest()
