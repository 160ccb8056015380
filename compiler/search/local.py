"""Layers run on their own, in float and with a choice, on the activations of a few samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.backend import Array
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Site
from lwc.compiler.search.batches import Run
from lwc.compiler.search.cut import Cuts, Part
from lwc.compiler.search.job import Job
from lwc.compiler.search.walk import CannotCut, Walk

Flat = NDArray[np.float64]


def first_samples(job: Job, count: int) -> Job:
    """The same job on its first samples, each run alone."""
    samples = [job.samples[i] for i in range(min(count, len(job.samples)))]
    return replace(job, samples=samples, runs=tuple(Run((i,)) for i in range(len(samples))))


class LocalRuns:
    """Answers for single sites; asked in the order of the graph it walks the model once. Samples run alone."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._cuts = Cuts(job.model, job.sites, job.sites_per_segment())
        self._walk = Walk(job, self._cuts)
        self._known: tuple[Site | None, list[Flat]] = None, []

    def close(self) -> None:
        """Forget all activations."""
        self._walk.close()

    def outputs(self, site: Site, choice: Choice) -> list[tuple[Flat, Flat]]:
        """The layer's output in float and with the choice, flat, per sample; empty when it cannot run alone."""
        index = self._cuts.segment_of(site)
        if index is None:
            return []
        try:
            self._walk.go_to(index)
            self._walk.reach((site,))
            unit = self._cuts.unit(site)
            model = self._cuts.submodel(unit)
            if self._known[0] != site:
                self._known = site, self._run(unit, model)
            changed = self._run(unit, self._job.apply(model, self._job.plan(((site, choice),))))
        except (CannotCut, LwcError):
            return []
        return list(zip(self._known[1], changed, strict=True))

    def _run(self, part: Part, model: Model) -> list[Flat]:
        session = self._walk.open(model.fork())
        runs = range(len(self._job.runs))
        return [_flat(session.run(self._walk.values(run, part.input_names))) for run in runs]


def relative_noise(y: Flat, z: Flat) -> float:
    """||z - y||^2 / ||y||^2."""
    difference = z - y
    return float(difference @ difference) / max(float(y @ y), 1e-30)


def _flat(arrays: Mapping[str, Array]) -> Flat:
    return np.concatenate([arrays[name].astype(np.float64).ravel() for name in sorted(arrays)])
