"""Scales of channels with which a model loses less in int8: every method is tried on the whole model and measured.

No formula tells: equalized layers gain 3 dB on ppocr-v4-rec, lose 5 dB on squeezenet and leave minilm-l3 as it is. So
a method is taken where errors of the uniform int8 plan are clearly less with it, sample by sample. Scales go into
weights and normalizations that are there already; none adds a node, so float stays as fast as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.analysis.activations import collect
from lwc.compiler.core.backend import Session
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Choice, Plan, Scaling, Site, scaling_of
from lwc.compiler.core.stats import LayerStats, TensorStats
from lwc.compiler.core.target import Target
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.value_stats import stats_of_values
from lwc.passes.precision import required_values
from lwc.passes.precision.equalize_layers import EqualizeLayers, equalizable
from lwc.passes.precision.scale_channels import ScaleChannels, ScalingPass
from lwc.passes.precision.smooth_activations import SmoothActivations
from lwc.passes.precision.smoothing_groups import read_by, smoothable
from lwc.passes.solvers.clipping import mse

log = logging.getLogger(__name__)

Statistics = Mapping[Site, LayerStats]

SAMPLES = 16  # that a trial calibrates on, and whose errors it compares
LEAST_SAMPLES = 4
NO_ERROR = 1e-5  # relative squared error, 50 dB: differences below do not count
DEVIATIONS = 2.0  # of the mean, that the gain must lie above zero
LEAST_GAIN = 0.15  # of ln(error), 0.65 dB


def scaled(model: Model, scalings: tuple[Scaling, ...], target: Target) -> Model:
    """A fork of the model with these scalings. Raises BadPlan when one does not fit."""
    fork = model.fork()
    outcome = ScaleChannels().run(fork.ir, PassContext(target, Plan(scalings=scalings)))
    if outcome.skipped:
        skip = outcome.skipped[0]
        raise BadPlan(f"The plan scales channels of '{skip.site.name}', which cannot be: {skip.reason}.")
    return fork


@dataclass(frozen=True)
class Rescaler:
    """Tries methods on the bench's model.

    static: sites that can be static int8, with that choice
    max_memory_bytes: of statistics; larger models stay as they are, for scaled weights are copies
    each: called after every sample
    """

    bench: Workbench
    static: Mapping[Site, Choice]
    max_memory_bytes: int = 1_000_000_000
    each: Callable[[], None] = lambda: None

    def choose(self) -> tuple[Scaling, ...]:
        """Scalings that clearly lose less, one method after the other; none where none does."""
        if not self.static or len(self.bench.samples) < LEAST_SAMPLES or not self._somewhere():
            return ()
        key = (*self.bench.key, sorted(site.name for site in self.static))
        known = self.bench.cache.get("scalings", key)
        if known is None:
            known = [asdict(scaling) for scaling in self._tried()]
            self.bench.cache.put("scalings", key, known)
        return tuple(map(scaling_of, known))

    def _somewhere(self) -> bool:
        model = self.bench.model
        small = model.weight_bytes() <= self.max_memory_bytes
        return small and bool(equalizable(model.ir) or smoothable(model.ir))

    def _tried(self) -> tuple[Scaling, ...]:
        model, kept = self.bench.model, tuple[Scaling, ...]()
        before: NDArray[np.float64] | None = None
        for method in METHODS:
            fork = model.fork()
            found = method(fork, self)
            if not found:
                continue
            before = self.errors(model) if before is None else before
            after = self.errors(fork)
            log.info("%s: error %.3g, was %.3g", method.__name__, after.mean(), before.mean())
            if clearly_less(after, before):
                model, kept, before = fork, (*kept, *found), after
        return kept

    def errors(self, model: Model) -> NDArray[np.float64]:
        """Of the uniform int8 plan: relative squared error of the outputs on each of some samples, [samples]."""
        ranges = {name: mse(stats) for name, stats in self._values(model).items()}
        plan = Plan(self.static, ranges)
        session = self._open(Applier(self.bench.target)(model, plan), ())
        count = min(SAMPLES, len(self.bench.samples))
        return np.array(
            [self.bench.error(i, session.run(self.bench.samples[i])) for i in range(count)]
        )

    def statistics(self, model: Model, sites: Iterable[Site], values: frozenset[str] | None) -> Statistics:
        """Of these sites; per channel where the values are not named."""
        return collect(
            model, tuple(sites), self.bench.samples.take(SAMPLES), self._open, channels=values is None,
            max_memory_bytes=self.max_memory_bytes, progress=lambda done, total: self.each(), values=values,
        )  # fmt: skip

    def _values(self, model: Model) -> dict[str, TensorStats]:
        """Statistics of the values that static int8 quantizes, by name."""
        names = required_values(model.ir, tuple(self.static))
        return stats_of_values(model, names, lambda sites: self.statistics(model, sites, names))

    def _open(self, model: Model, outputs: Sequence[str]) -> Session:
        return self.bench.backend.session(model, self.bench.target, outputs, lean=True)


def _equalized(model: Model, trial: Rescaler) -> tuple[Scaling, ...]:
    return _done(EqualizeLayers(equalizable(model.ir)), model, PassContext(trial.bench.target))


def _smoothed(model: Model, trial: Rescaler) -> tuple[Scaling, ...]:
    sites = smoothable(model.ir)
    readers = dict.fromkeys(reader for name in sites for reader in read_by(model.ir, name))
    if not readers:
        return ()
    context = PassContext(trial.bench.target, stats=trial.statistics(model, readers, None))
    return _done(SmoothActivations(sites), model, context)


def _done(method: ScalingPass, model: Model, context: PassContext) -> tuple[Scaling, ...]:
    return method.scale(model.ir, context).scalings


# In this order, each on what the one before left.
METHODS: tuple[Callable[[Model, Rescaler], tuple[Scaling, ...]], ...] = (_equalized, _smoothed)


def clearly_less(after: NDArray[np.float64], before: NDArray[np.float64]) -> bool:
    """Whether errors [samples] of the same samples fell: ln(before / after) by more than luck, and in their mean."""
    gain = np.log((before + NO_ERROR) / (after + NO_ERROR))
    doubt = DEVIATIONS * float(gain.std(ddof=1)) / np.sqrt(len(gain))
    return bool(gain.mean() > max(LEAST_GAIN, doubt) and after.mean() < before.mean())
