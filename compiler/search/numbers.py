"""What is known of a model's values: statistics, ranges and Gram matrices, and what rounding them loses.

All of it is arithmetic, the same on every runtime, and so measured once, on one bench.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from lwc.compiler.analysis.activations import collect
from lwc.compiler.analysis.sites import macs
from lwc.compiler.core.backend import Session
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Plan, Range, Site
from lwc.compiler.core.stats import LayerStats, TensorStats, load_stats, save_stats
from lwc.compiler.core.threads import one_blas_thread
from lwc.compiler.data import Calibration
from lwc.compiler.search.cheap import METHODS, Evidence
from lwc.compiler.search.cluster import Cluster
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.job import Change, Evaluator, job_of
from lwc.compiler.search.ranges import candidate_ranges, choose_ranges
from lwc.compiler.search.rounding import gram_sources
from lwc.compiler.search.row_grams import row_grams
from lwc.compiler.search.sensitivity import layer_losses, layers_suffice, losses_of, measured_losses, samples_for
from lwc.compiler.search.shared_weights import add_up_grams, sharing_sites
from lwc.compiler.search.value_stats import stats_of_values
from lwc.compiler.search.workers import Processes

log = logging.getLogger(__name__)

RANGE_SAMPLES = 4  # on which the candidates for activation ranges are compared


@dataclass
class Numbers:
    """Measures numbers on `bench`, each of them once.

    max_memory_bytes: of statistics and of activations that are kept;  each: called after every measurement
    workers: processes that losses are measured in;  scheduler: address of a Dask cluster instead
    samples: how many losses are measured on, all of them the same; 0 before the first
    """

    bench: Workbench
    calibration: Calibration
    max_memory_bytes: int = 1_000_000_000
    each: Callable[[], None] = lambda: None
    workers: int = 1
    scheduler: str | None = None
    values: dict[str, TensorStats] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    losses: dict[tuple[Site, Choice], float] = field(default_factory=dict)
    samples: int = 0

    def choose_ranges(self, names: frozenset[str], static: Mapping[Site, Choice]) -> None:
        """Statistics of these values; ranges by layer output error, or one method for all, whichever loses least.

        static: the choices whose whole-model error decides
        """
        bench = self.bench
        self.values.update(stats_of_values(bench.model, names, lambda sites: self._statistics(sites, names)))
        key = (*bench.key, tuple(sorted(self.values)))
        known = bench.cache.get("ranges", key)
        if known is None:
            candidates = candidate_ranges(self.values)
            samples = [bench.samples[i] for i in range(min(RANGE_SAMPLES, len(bench.samples)))]
            candidates["layer"] = choose_ranges(bench.model, self.values, candidates, samples, self._open, self.each)
            noises = {name: bench.noise(Plan(static, r), RANGE_SAMPLES) for name, r in candidates.items()}
            best = candidates[min(noises, key=noises.__getitem__)]
            known = {name: [r.low, r.high] for name, r in best.items()}
            bench.cache.put("ranges", key, known)
        self.ranges = {name: Range(low, high) for name, (low, high) in known.items()}

    def apart(self, count: int) -> Numbers:
        """The same from samples without the first ones."""
        return replace(self, calibration=self.calibration.without(count)) if count else self

    def collect_moments(self, activations: Mapping[Site, str]) -> Mapping[Site, LayerStats]:
        """Gram matrices and moments per channel of these sites' activations, put where plans are applied."""
        self.collect_grams(activations, means=True)
        return self.collect_means(activations)

    def collect_grams(self, activations: Mapping[Site, str], *, means: bool = False) -> Mapping[Site, LayerStats]:
        """Gram matrices of these sites' activations, and of rows that are looked up, put where plans are applied.

        Sites that read one weight get one matrix, the sum of theirs: their weight is rounded, and stored, once.
        means: moments per channel, too, where neither was known, from the same runs
        """
        stats = self.bench.apply.stats
        groups = sharing_sites(self.bench.model, activations)
        nodes = self.bench.model.by_name()
        sources = {**activations, **gram_sources(chain.from_iterable(groups), nodes)}
        missing = {s: name for s, name in sources.items() if s not in stats or stats[s].gram is None}
        tables = tuple(site for site in missing if site.op == "Gather")
        products = {site: name for site, name in missing.items() if site.op != "Gather"}
        if products:
            means = means and not all(site in stats and _has_means(stats[site]) for site in products)
            found = self._statistics(tuple(products), frozenset(products.values()), gram=True, channels=means)
            for site, layer in found.items():
                known = stats.get(site, layer)
                stats[site] = layer if means and not _has_means(known) else replace(known, gram=layer.gram)
            for sites in groups:
                add_up_grams(sites, stats)
        if tables:
            stats.update(self._row_grams(tables))
        return stats

    def collect_means(self, activations: Mapping[Site, str]) -> Mapping[Site, LayerStats]:
        """Moments per channel of these sites' activations, put where plans are applied."""
        stats = self.bench.apply.stats
        missing = {s: name for s, name in activations.items() if s not in stats or not _has_means(stats[s])}
        if missing:
            found = self._statistics(tuple(missing), frozenset(missing.values()), channels=True)
            stats.update({s: replace(layer, gram=stats[s].gram if s in stats else None) for s, layer in found.items()})
        return stats

    def measure_losses(self, options: Mapping[Site, Sequence[Choice]]) -> None:
        """Relative squared error of the model's outputs with each choice alone; what is known stays.

        Of a large model that is rounded in one way or not, that of the layers' own outputs: see search.sensitivity.
        """
        missing = {
            site: [choice for choice in choices if (site, choice) not in self.losses]
            for site, choices in options.items()
        }
        measurements = sum(map(len, missing.values()))
        if not measurements:
            return
        if layers_suffice(self.bench, options):
            log.info("a large model with one format to choose: losses are those of single layers, not measured")
            self.losses |= layer_losses(self.bench, missing, self.each)
            return
        total = sum(macs(node) for node in self.bench.model.graph)
        self.samples = self.samples or samples_for(total, measurements, len(self.bench.samples))
        self.losses |= measured_losses(
            self.bench, missing, self.ranges, self.samples, self.each,
            evaluator=self._evaluator(options, self.samples), max_memory_bytes=self.max_memory_bytes,
        )  # fmt: skip

    def losses_together(self, sites: Iterable[Site], changes: Sequence[Change]) -> Mapping[Change, float]:
        """As `measure_losses`, of several choices at once, on the same samples; sites: all of the model's."""
        known = tuple(sites)
        return losses_of(
            self.bench, known, self.ranges, self.samples, changes, self.each,
            evaluator=self._evaluator(known, self.samples), max_memory_bytes=self.max_memory_bytes,
        )  # fmt: skip

    def estimate_losses(self, options: Mapping[Site, Sequence[Choice]], method: str) -> None:
        """Losses by one of the cheap methods instead, which mostly rank: see search.cheap."""
        nodes = self.bench.model.by_name()
        grams = self.collect_grams(gram_sources(options, nodes))
        job = job_of(self.bench, options, self.ranges, RANGE_SAMPLES, self.max_memory_bytes)
        self.losses |= dict(METHODS)[method](Evidence(job, options, grams, self.values))

    def elements(self, names: Sequence[str]) -> dict[str, float]:
        """How many numbers these values hold per run; from one run where they have no statistics."""
        count = max(1, len(self.calibration))
        known = {name: self.values[name].count / count for name in names if name in self.values}
        missing = [name for name in names if name not in known]
        if missing:
            outputs = self._open(self.bench.model, missing).run(self.bench.samples[0])
            known |= {name: float(np.size(outputs[name])) for name in missing}
        return known

    def _evaluator(self, sites: Iterable[Site], count: int) -> Evaluator | None:
        if self.scheduler is None and self.workers == 1:
            return None
        return _WhenAsked(partial(self._elsewhere, tuple(sites), count))

    def _elsewhere(self, sites: Sequence[Site], count: int) -> Evaluator:
        job = job_of(self.bench, sites, self.ranges, count, self.max_memory_bytes)
        return Cluster(job, self.scheduler) if self.scheduler is not None else Processes(job, self.workers)

    def _statistics(
        self, sites: Sequence[Site], names: frozenset[str], *, gram: bool = False, channels: bool = False
    ) -> Mapping[Site, LayerStats]:
        bench = self.bench
        key = (*bench.key, len(self.calibration), tuple(sorted(names)), gram, channels)
        path = bench.cache.path("stats", key, ".npz")
        stats = _kept_stats(path)
        if stats is None or any(site not in stats for site in sites):
            with one_blas_thread():
                stats = collect(
                    bench.model, sites, self.calibration, self._open, gram=gram, channels=channels,
                    max_memory_bytes=self.max_memory_bytes, progress=lambda done, total: self.each(), values=names,
                )  # fmt: skip
            if path is not None:
                save_stats(path, stats)
        return stats

    def _row_grams(self, tables: tuple[Site, ...]) -> Mapping[Site, LayerStats]:
        path = self.bench.cache.path("rows", (*self.bench.key, *tables), ".npz")
        found = _kept_stats(path)
        if found is None:
            nodes = self.bench.model.by_name()
            found = row_grams(self.bench, {site: nodes[site.name] for site in tables}, self.each)
            if path is not None:
                save_stats(path, found)
        return found

    def _open(self, model: Model, outputs: Sequence[str]) -> Session:
        return self.bench.backend.session(model, self.bench.target, outputs, lean=True)


@dataclass(frozen=True)
class _WhenAsked:
    """An Evaluator that is made when there is something to measure: a job runs the model to see what it takes."""

    make: Callable[[], Evaluator]

    def losses(self, changes: Sequence[Change]) -> Iterator[tuple[Change, float]]:
        return self.make().losses(changes)


def _has_means(layer: LayerStats) -> bool:
    return any(tensor is not None and tensor.channel_mean is not None for tensor in layer.inputs)


def _kept_stats(path: Path | None) -> dict[Site, LayerStats] | None:
    """Statistics of an earlier compile; None when there are none, or the file is damaged."""
    if path is None or not path.exists():
        return None
    try:
        return load_stats(path)
    except BadInput:
        return None
