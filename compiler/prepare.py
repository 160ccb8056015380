"""From options to a workplace: target, backend, cleaned model, calibration data, the original's answers, the cache."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from lwc import backends, passes
from lwc._version import __version__
from lwc.compiler.analysis.shapes import fix_dimensions, infer_shapes
from lwc.compiler.core.backend import Array, Backend, Session
from lwc.compiler.core.cache import Cache
from lwc.compiler.core.errors import BadInput, UnsupportedOperator, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.opset import ensure_opset
from lwc.compiler.core.pass_ import PassContext, Skip
from lwc.compiler.core.plan import Scaling
from lwc.compiler.core.progress import Progress
from lwc.compiler.core.target import Target, find_target
from lwc.compiler.data import Calibration, synthesize
from lwc.compiler.measure import representative
from lwc.compiler.metrics import Metric, Outputs, Sample, find_metric
from lwc.compiler.mix import Shapes, frequent_shapes, mixed, shapes_of
from lwc.compiler.options import PRECISIONS, CompileOptions
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.decide import PRECISIONS as FORMATS
from lwc.compiler.spool import Spool
from lwc.passes.canonicalize.name_nodes import NameNodes
from lwc.passes.merge.share_tensors import ShareTensors

SYNTHETIC_SAMPLES = 32
QDQ_OPSET = 13  # DequantizeLinear takes an axis, which per-channel weights need


@dataclass
class Timings:
    """Seconds per stage, and the stage's name told to the listener."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)

    @contextmanager
    def stage(self, key: str, name: str, total: int | None = None) -> Iterator[None]:
        """Time a stage under `key` of the report."""
        self.progress.stage(name, total)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Prepared:
    """All that decisions and proofs look at.

    original: the input model;  clean: canonicalized, fused, its opset raised, shapes annotated
    reference: runs the original, what speed-ups are measured against
    asked: the target as the user named it;  backend, target: what is being decided for
    apply: makes forks with plans applied
    search, held_out: disjoint samples (the same one when there is only one)
    scalings: what was done to the cleaned model since
    originals: outputs of the original, per part and sample;  feeds: the sample that search measures latency on
    shapes: those of inputs that runtimes should compile for, most frequent first
    mix: held-out samples that the proof measures latency on, in turn; `feeds` alone where all have one shape
    """

    original: Model
    clean: Model
    reference: Backend
    asked: Target
    backend: Backend
    target: Target
    apply: Applier
    metric: Metric
    calibration: Calibration
    search: Calibration
    held_out: Calibration
    originals: Mapping[str, Spool]
    feeds: Sample
    shapes: tuple[Shapes, ...]
    mix: tuple[Sample, ...]
    cache: Cache
    key: tuple[str, ...]
    skipped: tuple[Skip, ...]
    scalings: tuple[Scaling, ...] = ()

    def on(self, backend: Backend) -> Prepared:
        """The same workplace with another runtime on it."""
        return self._at(backend, backend.narrow(self.asked))

    def limited_to(self, choices: Collection[str]) -> Prepared:
        """The same workplace where only choices of these names are offered."""
        kept = tuple(name for name in self.target.choices if name in choices)
        return self._at(self.backend, replace(self.target, choices=kept))

    def _at(self, backend: Backend, target: Target) -> Prepared:
        key = (*self.key[:-2], *_place(backend, target))
        return replace(self, backend=backend, target=target, apply=self.apply.on(target), key=key)


def prepare(original: Model, options: CompileOptions, timings: Timings) -> Prepared:
    """Check, clean and run the original. Raises BadInput and its children, UsageError, MissingDependency."""
    backend = reference_backend(options)
    asked = replace(find_target(options.target), portable=options.portable, tuned=options.cache_folder)
    target = backend.narrow(asked)
    refuse_precision(options.precision, {one.name: one.narrow(asked) for one in runtimes(options)})
    if options.shape:
        original = original.fork()
        fix_dimensions(original.ir, options.shape)
    calibration, originals, inputs = _answers(original, backend, target, options, timings)
    search, held_out = calibration.split()
    with timings.stage("canonicalize", "Cleaning the graph"):
        clean, skipped = clean_model(original, target, options.share)
    metric = find_metric(options.metric, class_outputs(clean, originals["search"][0]))
    feeds = representative(search, inputs)
    shapes = frequent_shapes(search, inputs, feeds)
    return Prepared(
        original=original,
        clean=clean,
        reference=backend,
        asked=asked,
        backend=backend,
        target=target,
        apply=Applier(target),
        metric=metric,
        calibration=calibration,
        search=search,
        held_out=held_out,
        originals=originals,
        feeds=feeds,
        shapes=shapes,
        mix=_timed(held_out, inputs, shapes, feeds),
        cache=Cache(options.cache_folder),
        key=_cache_key(clean, calibration, metric, backend, target, options),
        skipped=skipped,
    )


def _answers(
    original: Model, backend: Backend, target: Target, options: CompileOptions, timings: Timings
) -> tuple[Calibration, dict[str, Spool], list[str]]:
    """Calibration data, what the original gives for it, and the original's inputs.

    Its session is gone by then: cleaning reads all weights, and would have them beside those of a session.
    """
    with timings.stage("load", "Loading"):
        refuse_unsupported(original, backend, target)
        session = backend.session(original, target, lean=True)
        calibration = open_calibration(original, session, options)
        parts = dict(zip(("search", "held_out"), calibration.split(), strict=True))
    with timings.stage("load", "Running the original", sum(map(len, parts.values()))):
        originals = {name: _run_all(session, samples, timings.progress) for name, samples in parts.items()}
    return calibration, originals, [port.name for port in session.inputs]


def _timed(held_out: Calibration, inputs: Sequence[str], shapes: Sequence[Shapes], feeds: Sample) -> tuple[Sample, ...]:
    found = [shapes_of(sample, inputs) for sample in held_out]
    if len(shapes) == 1 and all(each == shapes[0] for each in found):
        return (feeds,)
    return tuple(held_out[k] for k in mixed(found, shapes))


def reference_backend(options: CompileOptions) -> Backend:
    """ONNX Runtime; where it is not installed, the runtime the user named. Raises MissingDependency."""
    missing = backends.REFERENCE not in backends.available() and options.backend != "auto"
    return backends.get(options.backend if missing else backends.REFERENCE)


def runtimes(options: CompileOptions) -> tuple[Backend, ...]:
    """The runtimes to decide for: the one the user named, or all that are installed, the reference first.

    For size the reference alone: others keep files of their own beside model.onnx.
    """
    if options.backend != "auto":
        return (backends.get(options.backend),)
    if options.objective == "size":
        return (backends.get(backends.REFERENCE),)
    return tuple(backends.get(name) for name in backends.available())


def refuse_precision(precision: str, targets: Mapping[str, Target]) -> None:
    """Raise UsageError when no runtime executes any format that --precision leaves.  targets: by runtime"""
    wanted = FORMATS[precision]
    executed = {name for target in targets.values() for name in target.choices}
    if precision != "auto" and wanted and not wanted & executed:
        place = next(iter(targets.values())).name
        known = [name for name in PRECISIONS if name == "fp32" or (name != "auto" and FORMATS[name] & executed)]
        raise UsageError(
            f"{precision} is not executed by {' or '.join(targets)} on '{place}'.", f"What is: {', '.join(known)}."
        )


def open_calibration(original: Model, session: Session, options: CompileOptions) -> Calibration:
    """The user's samples, or synthetic ones when there are none."""
    if options.calib is not None:
        return Calibration.open(options.calib, session.inputs, limit=options.samples, seed=options.seed)
    count = options.samples or SYNTHETIC_SAMPLES
    return synthesize(session.inputs, original, count, options.seed, options.shape, run=session.run)


def refuse_unsupported(model: Model, backend: Backend, target: Target) -> None:
    """Raise UnsupportedOperator naming the first node that the runtime cannot run."""
    support = backend.supports(model, target)
    for name, reason in support.refused.items():
        raise UnsupportedOperator(f"{model.name}: node '{name}' cannot run here: {reason.rstrip('.')}.")


def clean_model(original: Model, target: Target, share: float = 0.0) -> tuple[Model, tuple[Skip, ...]]:
    """A fork, canonicalized and fused, with opset >= 13 and shapes annotated.

    share: weights that differ by no more, of the greatest of theirs, are stored once
    """
    clean = original.fork()
    outcome = passes.clean(target).run(clean.ir, PassContext(target))
    if share:
        ShareTensors(share).run(clean.ir, PassContext(target))
    ensure_opset(clean.ir, QDQ_OPSET)
    NameNodes().run(clean.ir, PassContext(target))  # raising the opset may add nodes
    infer_shapes(clean.ir)
    return clean, outcome.skipped


def class_outputs(model: Model, example: Outputs) -> tuple[str, ...]:
    """Outputs that are scores over classes, where agreement is of argmax.

    Those are: rows that sum to one (probabilities), names that say so, or a 2-D result of a final Gemm.
    """
    return tuple(
        value.name or ""
        for value in model.graph.outputs
        if value.name and value.name in example and _is_scores(value, example[value.name])
    )


def _is_scores(value: ir.Value, array: Array) -> bool:
    if array.dtype.kind != "f" or array.ndim < 2 or array.shape[-1] < 2 or not array.size:
        return False
    if (array >= 0).all() and abs(array.sum(-1) - 1.0).max() < 1e-2:
        return True
    if any(word in (value.name or "").lower() for word in ("logit", "prob", "score", "class")):
        return True
    node = value.producer()
    return array.ndim == 2 and node is not None and node.op_type in ("Gemm", "LogSoftmax")


def _run_all(session: Session, samples: Calibration, progress: Progress) -> Spool:
    spool = Spool()
    for sample in samples:
        outputs = session.run(sample)
        if not outputs:
            raise BadInput("The model has no outputs to compare.")
        spool.append(outputs)
        progress.advance()
    return spool


def _cache_key(
    clean: Model,
    calibration: Calibration,
    metric: Metric,
    backend: Backend,
    target: Target,
    options: CompileOptions,
) -> tuple[str, ...]:
    return (
        __version__,
        clean.digest(),
        calibration.digest(),
        f"{metric.name} {metric.identity}",
        str(options.seed),
        options.precision,
        *_place(backend, target),
    )


def _place(backend: Backend, target: Target) -> tuple[str, str]:
    """The end of a cache key: where things were measured."""
    return backend.version(), target.fingerprint
