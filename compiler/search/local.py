"""Layers run on their own, and the model's response to a small disturbance of one layer's output."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.backend import Array, Session
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.plan import Choice, Site
from lwc.compiler.search.batches import Run
from lwc.compiler.search.cut import Cuts, Part
from lwc.compiler.search.evaluate import relative_error
from lwc.compiler.search.job import Job
from lwc.compiler.search.walk import CannotCut, Reach, Walk

Flat = NDArray[np.float64]

_OPEN_SESSIONS = 3
_DISTURBANCE = (
    1e-2  # of a layer's output, in root mean squares: far above float32's rounding, small enough to be linear
)


class LocalRuns:
    """A walk over the first samples, each alone, for questions about single sites in the order of the graph."""

    def __init__(self, job: Job, samples: int) -> None:
        count = min(samples, len(job.samples))
        self._job = replace(job, runs=tuple(Run((i,)) for i in range(count)))
        self._cuts = Cuts(job.model, job.sites, job.sites_per_segment())
        self._walk = Walk(self._job, self._cuts)
        self._known: tuple[Site | None, list[dict[str, Array]]] = None, []
        self._sessions: dict[tuple[str, tuple[str, ...]], Session] = {}

    def close(self) -> None:
        """Forget all activations."""
        self._sessions.clear()
        self._walk.close()

    def outputs(self, site: Site, choice: Choice) -> list[tuple[Flat, Flat]]:
        """The layer's output in float and with the choice, flat, per sample; empty when it cannot run alone."""
        try:
            self._enter(site)
            unit = self._cuts.unit(site)
            changed = self._walk.open(self._job.apply(self._cuts.submodel(unit), self._job.plan(((site, choice),))))
            found = [changed.run(self._inputs(unit, run)) for run in range(len(self._job.runs))]
            return [(_flat(y), _flat(z)) for y, z in zip(self._floats(site, unit), found, strict=True)]
        except (CannotCut, LwcError):
            return []

    def response(self, site: Site) -> float:
        """Relative squared error of the model's outputs, over that of the layer's output, for white noise there.

        Mean over samples; 1 where the site cannot be cut out.
        """
        try:
            reach = self._enter(site)
            unit = self._cuts.unit(site)
            rest = self._cuts.part([node for node in reach.here.nodes if node not in set(unit.nodes)])
            stages = [(part, self._session(part)) for part in (rest, reach.behind) if part is not None and part.nodes]
            floats = self._floats(site, unit)
            return float(np.mean([self._ratio(site, k, stages, found) for k, found in enumerate(floats)]))
        except (CannotCut, LwcError):
            return 1.0

    def _enter(self, site: Site) -> Reach:
        index = self._cuts.segment_of(site)
        if index is None:
            raise CannotCut("there is no such site")
        self._walk.go_to(index)
        return self._walk.reach((site,))

    def _inputs(self, part: Part, run: int) -> dict[str, Array]:
        return self._walk.values(run, part.input_names)

    def _floats(self, site: Site, unit: Part) -> list[dict[str, Array]]:
        """What the layer gives in float, kept for the choices of one site."""
        if self._known[0] != site:
            session = self._walk.open(self._cuts.submodel(unit))
            self._known = site, [session.run(self._inputs(unit, run)) for run in range(len(self._job.runs))]
        return self._known[1]

    def _session(self, part: Part) -> Session:
        """The last ones stay open: suffixes are shared by the sites of a segment."""
        key = (part.nodes[0].name or "", part.input_names)
        found = self._sessions.pop(key, None) or self._walk.open(self._cuts.submodel(part))
        self._sessions[key] = found
        while len(self._sessions) > _OPEN_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return found

    def _ratio(
        self, site: Site, run: int, stages: Sequence[tuple[Part, Session]], floats: Mapping[str, Array]
    ) -> float:
        noisy = {name: _with_noise(array, f"{site.name}/{run}/{name}") for name, array in floats.items()}
        outputs = dict(noisy)
        for part, session in stages:
            known = self._walk.values(run, [name for name in part.input_names if name not in outputs])
            outputs |= session.run({**known, **{k: outputs[k] for k in part.input_names if k in outputs}})
        want = self._job.originals(run)
        moved = relative_error(want, {**want, **{name: outputs[name] for name in want if name in outputs}})
        return moved / max(relative_noise(_flat(floats), _flat(noisy)), 1e-30)


def relative_noise(y: Flat, z: Flat) -> float:
    """||z - y||^2 / ||y||^2."""
    difference = z - y
    return float(difference @ difference) / max(float(y @ y), 1e-30)


def _flat(arrays: Mapping[str, Array]) -> Flat:
    return np.concatenate([arrays[name].astype(np.float64).ravel() for name in sorted(arrays)])


def _with_noise(array: Array, name: str) -> Array:
    if not np.issubdtype(array.dtype, np.floating):
        return array
    seed = hashlib.blake2b(name.encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(seed, "little"))
    size = float(np.sqrt(np.square(array, dtype=np.float64).mean())) if array.size else 0.0
    return (array + _DISTURBANCE * size * rng.standard_normal(array.shape)).astype(array.dtype)
