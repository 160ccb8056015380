"""Losses of changes by partial re-runs: only what lies downstream of a change runs again, from float activations.

The model is cut into segments. The float model runs once over all samples, segment by segment, and leaves the
activations that changes in the segment start from. A change is applied by the passes to a model of the segment's
nodes downstream of its sites, a small session; what leaves the segment goes through a float session of all that lies
behind, which the changes of the segment share. Where nothing changes, nothing runs behind.

Losses depend on the model, its sites and the samples, never on which changes are asked for or in what order, and
sessions have one thread: so one process and many give the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from lwc.compiler.core.backend import OPEN_BYTES, Array, Session
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.search.batches import shares
from lwc.compiler.search.cut import Cuts, Part
from lwc.compiler.search.job import Change, Job
from lwc.compiler.search.walk import CannotCut, Reach, Walk

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")

# A part may run samples together when that moves its outputs by less than this share of what the change does,
# squared; per-tensor ranges found at run time, for one, are not those of a sample.
_SAME_NOISE = 1e-3
_SAME_FLOAT = 1e-10
_OF_THE_BATCH = frozenset({"DynamicQuantizeLinear"})


class PartialRuns:
    """Measures changes in this process. An Evaluator.

    One object walks on from segment to segment: ask for changes in the order of the graph.
    """

    def __init__(self, job: Job, sites_per_segment: int | None = None) -> None:
        self.job = job
        self.cuts = Cuts(job.model, job.sites, sites_per_segment or job.sites_per_segment())
        self._walk = Walk(job, self.cuts)
        self._suffixes: dict[tuple[str, ...], Session] = {}
        self._suffixes_of = -1
        self._stuck = False
        self._returned = frozenset(value.name for value in job.model.graph.outputs)

    def __enter__(self) -> PartialRuns:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget all activations."""
        self._suffixes.clear()
        self._walk.close()

    def losses(self, changes: Sequence[Change]) -> Iterator[tuple[Change, float]]:
        """In the order of the graph. What cannot be cut out is measured on the whole model."""
        for change in sorted(changes, key=self.segment_of):
            yield change, self.loss(change)

    def segment_of(self, change: Change) -> int:
        """Where the change begins; -1 when it is at no site of the job."""
        found = [self.cuts.segment_of(site) for site, _ in change]
        return -1 if None in found else min(index for index in found if index is not None)

    def loss(self, change: Change) -> float:
        """Mean over all samples of the relative error of the outputs."""
        index = self.segment_of(change)
        if index >= 0 and self._go_to(index):
            try:
                return self._partial_loss(change)
            except (CannotCut, LwcError) as error:
                log.debug("on the whole model: %s: %s", change, error)
        return self.whole_model_loss(change)

    def whole_model_loss(self, change: Change) -> float:
        """The same by running everything, sample by sample."""
        job = self.job
        session = job.open(job.apply(job.model, job.plan(change)))
        errors = [job.error(i, session.run(job.samples[i])) for i in range(len(job.samples))]
        return float(np.mean(errors))

    def _go_to(self, index: int) -> bool:
        if not self._stuck:
            try:
                self._walk.go_to(index)
            except (CannotCut, LwcError) as error:
                log.debug("the model cannot be cut: %s", error)
                self._stuck = True
        if self._suffixes_of != index:
            self._suffixes.clear()
            self._suffixes_of = index
        return not self._stuck

    def _partial_loss(self, change: Change) -> float:
        reach = self._walk.reach(tuple(site for site, _ in change))
        self._walk.hold(reach.needed())
        try:
            model = self.job.apply(self.cuts.submodel(reach.here), self.job.plan(change))
            changed = ChangedPart(self._walk, reach.here, model)
            behind = self._suffix(reach)
            found = _side_by_side(
                lambda k: self._errors(reach, changed, behind, k), range(len(self.job.runs)), self.job.threads
            )
        finally:
            self._walk.let_go()
        errors = {index: error for part in found for index, error in part.items()}
        return float(np.mean([errors[i] for i in range(len(self.job.samples))]))

    def _suffix(self, reach: Reach) -> Session | None:
        if reach.behind is None:
            return None
        key = reach.here.output_names
        if key not in self._suffixes:
            model = self.cuts.submodel(reach.behind)
            if (len(self._suffixes) + 1) * model.weight_bytes() > OPEN_BYTES:
                self._suffixes.clear()
            self._suffixes[key] = self._walk.open(model)
        return self._suffixes[key]

    def _errors(self, reach: Reach, changed: ChangedPart, behind: Session | None, run: int) -> dict[int, float]:
        """Relative errors of the run's samples by their index."""
        samples = self.job.runs[run].samples
        outputs = changed.run(run)
        if changed.is_nothing(outputs, run):
            return dict.fromkeys(samples, 0.0)
        if reach.behind is not None and behind is not None:
            unchanged = [name for name in reach.behind.input_names if name not in outputs]
            outputs |= behind.run({**self._walk.values(run, unchanged), **outputs})
        errors = {}
        returned = {name: array for name, array in outputs.items() if name in self._returned}
        for k, index in enumerate(samples):
            want = self.job.originals(index)
            errors[index] = self.job.error(index, {**want, **shares(returned, want, k, len(samples))})
        return errors


class ChangedPart:
    """A session of a part with a change applied, run on the walk's activations; samples together where that is safe."""

    def __init__(self, walk: Walk, part: Part, model: Model) -> None:
        self._walk = walk
        self._part = part
        self._session = walk.open(model)
        dynamic = any(node.op_type in _OF_THE_BATCH for node in model.nodes())
        self._together = walk.probe is None or (not dynamic and self._takes_batches(walk.probe))

    def run(self, run: int) -> dict[str, Array]:
        """What the part gives for one run."""
        feeds = self._walk.values(run, self._part.input_names)
        count = len(self._walk.job.runs[run].samples)
        if self._together or count == 1:
            return self._session.run(feeds)
        axes = {name: self._walk.axis(name) for name in (*self._part.input_names, *self._part.output_names)}
        alone = [
            self._session.run({name: _share(array, axes[name], k, count) for name, array in feeds.items()})
            for k in range(count)
        ]
        return {name: _joined([found[name] for found in alone], axes[name]) for name in alone[0]}

    def is_nothing(self, outputs: Mapping[str, Array], run: int) -> bool:
        """Whether these are the float activations, bit by bit."""
        floats = self._walk.values(run, self._part.output_names)
        return all(np.array_equal(outputs[name], array) for name, array in floats.items())

    def _takes_batches(self, probe: int) -> bool:
        count = len(self._walk.job.runs[0].samples)
        alone = self._session.run(self._walk.values(probe, self._part.input_names))
        floats = self._walk.values(probe, self._part.output_names)
        try:
            together = self._session.run(self._walk.values(0, self._part.input_names))
            axes = {name: self._walk.axis(name) for name in alone}
            first = {name: _share(array, axes[name], 0, count) for name, array in together.items()}
        except (CannotCut, LwcError) as error:
            log.debug("sample by sample: %s", error)
            return False
        return all(_same(first[name], alone[name], floats[name]) for name in alone)


def _same(together: Array, alone: Array, unchanged: Array) -> bool:
    if together.shape != alone.shape or unchanged.shape != alone.shape:
        return False
    a, b, c = (array.astype(np.float64) for array in (together, alone, unchanged))
    with np.errstate(invalid="ignore"):  # infinity less itself
        moved, change, size = (np.nansum(np.square(x)) for x in (a - b, b - c, c))
    return bool(moved <= _SAME_NOISE * change + _SAME_FLOAT * size)


def _share(array: Array, axis: int | None, k: int, count: int) -> Array:
    if axis is None:
        return array
    size = array.shape[axis] // count
    return np.ascontiguousarray(np.take(array, range(k * size, (k + 1) * size), axis))


def _joined(arrays: Sequence[Array], axis: int | None) -> Array:
    return arrays[0] if axis is None else np.concatenate(arrays, axis)


def _side_by_side(measure: Callable[[int], _Found], runs: Sequence[int], threads: int) -> list[_Found]:
    """Results in the order of runs."""
    if threads < 2 or len(runs) < 2:
        return [measure(run) for run in runs]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(measure, runs))
