"""Time for kernels: runtimes that write their own measure those of the candidates before the proof."""

from __future__ import annotations

from collections.abc import Sequence

from lwc.compiler.core.backend import TunesKernels
from lwc.compiler.core.errors import UsageError
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Timings, runtimes
from lwc.compiler.prove import Candidate

SECONDS = 60.0  # in a minute
TUNED_SHAPES = 1  # of each candidate, the most frequent: others would take their share of the time


def refuse_tuning(options: CompileOptions) -> None:
    """Raise UsageError when --tune is given and no runtime of this compile has kernels to tune."""
    if options.tune_minutes and not any(isinstance(each, TunesKernels) for each in runtimes(options)):
        raise UsageError("No runtime of this compile has kernels to tune.", "Name one with --backend tvm.")


def tune(candidates: Sequence[Candidate], options: CompileOptions, timings: Timings) -> None:
    """Spend the minutes of --tune on the candidates of the runtimes that can, in equal shares. Raises UsageError."""
    found = {each.backend.name: each for each in candidates if isinstance(each.backend, TunesKernels)}
    if not options.tune_minutes:
        return
    with timings.stage("tune", "Tuning kernels"):
        if not found:
            timings.progress.note("No candidate runs on kernels that can be tuned.")
        for name, first in found.items():
            assert isinstance(first.backend, TunesKernels)
            own = [each for each in candidates if each.backend.name == name]
            models = [(each.model, shapes) for each in own for shapes in each.shapes[:TUNED_SHAPES] or ({},)]
            seconds = SECONDS * options.tune_minutes / len(found)
            first.backend.tune(models, first.target, seconds, timings.progress, options.tuner)
