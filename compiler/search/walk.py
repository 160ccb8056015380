"""One walk of the float model over all samples, segment by segment: the activations that changes start from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.backend import Array, Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site
from lwc.compiler.search.batches import Dims, Run, merged, relax
from lwc.compiler.search.cut import Cuts, Part, Segment
from lwc.compiler.search.job import Job
from lwc.compiler.search.kept_values import KeptValues


class CannotCut(Exception):
    """Something cannot be run on its own."""


@dataclass(frozen=True, eq=False)
class Reach:
    """What a change needs. here: from its sites on, within the segment;  behind: what that reaches after it, if any"""

    here: Part
    behind: Part | None

    def needed(self) -> tuple[ir.Value, ...]:
        """The values to have in float: what the parts read and what the first one gives."""
        behind = () if self.behind is None else self.behind.inputs
        return (*self.here.inputs, *self.here.outputs, *behind)


class Walk:
    """Stands in one segment at a time and holds the activations that its sites need, for every run.

    Where samples run together, the first of the first run runs alone besides: the probe, which shows on which axis
    they lie.
    """

    def __init__(self, job: Job, cuts: Cuts) -> None:
        self.job = job
        self.cuts = cuts
        together = any(len(run.samples) > 1 for run in job.runs)
        self.probe = len(job.runs) if together else None
        self._runs: tuple[Run, ...] = (*job.runs, Run(job.runs[0].samples[:1])) if together else job.runs
        self._kept = KeptValues(job.max_memory_bytes)
        self._here = -1
        self._standard: frozenset[str] = frozenset()
        self._dims: dict[str, Dims] = {}
        self._axes: dict[str, int | None] = {}
        self._reaches: dict[tuple[Site, ...], Reach | None] = {}

    @property
    def segment(self) -> Segment:
        return self.cuts.segments[self._here]

    def close(self) -> None:
        self._kept.close()

    def go_to(self, index: int) -> None:
        """Walk to the segment; from the first one again when it lies behind."""
        if index < self._here:
            self._kept.only(())
            self._here = -1
        while self._here < index:
            self._enter(self._here + 1)

    def reach(self, sites: tuple[Site, ...]) -> Reach:
        """Parts of a change at these sites, the first of which lies in this segment. Raises CannotCut."""
        if sites not in self._reaches:
            self._reaches[sites] = self._find_reach(sites)
        found = self._reaches[sites]
        if found is None:
            raise CannotCut("what crosses the border is no tensor of numbers, or its type is not known")
        return found

    def hold(self, values: Iterable[ir.Value]) -> None:
        """Compute these values where they are not held, until `let_go`."""
        self._fill(self.segment.live, tuple(values))

    def let_go(self) -> None:
        """Forget what `hold` added: numbers must not depend on what was asked before."""
        self._kept.only(self._standard)

    def values(self, run: int, names: Iterable[str]) -> dict[str, Array]:
        """Float activations of one run."""
        return self._kept.get(run, names)

    def open(self, model: Model) -> Session:
        """A session of a part, for these activations."""
        return self.job.open(relax(model, self._dims))

    def axis(self, name: str) -> int | None:
        """On which axis of the value the samples of a run lie; None when they share it. Raises CannotCut."""
        if name not in self._axes:
            assert self.probe is not None
            one, many = (self._kept.get(run, [name])[name] for run in (self.probe, 0))
            self._axes[name] = _axis(one, many, len(self._runs[0].samples))
        return self._axes[name]

    def _enter(self, index: int) -> None:
        self._here = index
        if index == 0:
            names = [value.name or "" for value in self.job.model.graph.inputs if not value.is_initializer()]
            for k, run in enumerate(self._runs):
                self._kept.put(k, run.feeds(self.job.samples, names))
            self._learn(names)
        segment = self.segment
        self._kept.only(value.name or "" for value in segment.live)
        wanted: dict[ir.Value, None] = {}
        if index + 1 < len(self.cuts.segments):
            wanted.update(dict.fromkeys(self.cuts.segments[index + 1].live))
        for site in segment.sites:
            found = self._reaches[site,] = self._find_reach((site,))
            wanted.update(dict.fromkeys(found.needed() if found else ()))
        self._fill(segment.live, tuple(wanted))
        self._standard = frozenset(value.name or "" for value in (*segment.live, *wanted))

    def _find_reach(self, sites: tuple[Site, ...]) -> Reach | None:
        indices = [self.cuts.segment_of(site) for site in sites]
        if None in indices:
            return None
        inside = all(index == self._here for index in indices)
        here = self.cuts.downstream(sites, self.segment.stop if inside else None)
        behind = self.cuts.behind(here.outputs, self.segment.stop) if inside else None
        if behind is not None and not behind.nodes:
            behind = None
        return Reach(here, behind) if here.cuttable() and (behind is None or behind.cuttable()) else None

    def _fill(self, given: Sequence[ir.Value], wanted: Sequence[ir.Value]) -> None:
        known = [value for value in wanted if (value.name or "") in self._kept]
        part = self.cuts.between((*given, *known), wanted)
        if not part.outputs:
            return
        session = self.open(self.cuts.submodel(part))
        for k in range(len(self._runs)):
            self._kept.put(k, session.run(self._kept.get(k, part.input_names)))
        self._learn(part.output_names)

    def _learn(self, names: Iterable[str]) -> None:
        for name in names:
            shapes = self._kept.shapes(name)
            if len({len(shape) for shape in shapes}) > 1:
                raise CannotCut(f"'{name}' has not the same rank in all samples")
            self._dims[name] = merged(shapes)


def _axis(one: Array, many: Array, count: int) -> int | None:
    """The axis on which `many` holds `count` times what `one` holds."""
    axes = [k for k in range(one.ndim) if one.ndim == many.ndim and one.shape[k] != many.shape[k]]
    if not axes and np.array_equal(one, many):
        return None
    if len(axes) != 1 or many.shape[axes[0]] != count * one.shape[axes[0]]:
        raise CannotCut("the samples of a batch cannot be told apart")
    return axes[0]
