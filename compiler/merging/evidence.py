"""What merging methods learn from data: samples of each model, statistics of its layers, the score of a candidate.

Models may call their inputs differently: samples are read under the names of the model they are for, and fed to
another by the order of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from lwc import backends
from lwc.compiler.analysis.activations import collect
from lwc.compiler.analysis.rows import rows_of
from lwc.compiler.core.backend import Feeds, Session
from lwc.compiler.core.errors import BadCalibration, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.target import find_target
from lwc.compiler.data import Calibration, synthesize
from lwc.compiler.merging.job import Job
from lwc.compiler.metrics import Metric, Outputs, find_metric
from lwc.compiler.prepare import SYNTHETIC_SAMPLES, class_outputs
from lwc.compiler.samples import Sample, Samples
from lwc.compiler.search.cut import Cuts
from lwc.compiler.spool import Spool

LABELS = frozenset({"label", "labels", "y", "target"})
SYNTHETIC = "No samples were given (--calib): the method looked at synthetic ones, which say little of real data."


def models_of(job: Job) -> tuple[Model, ...]:
    """The models that are merged, without the base."""
    return job.aligned.models[1:] if job.based else job.aligned.models


def samples_of(job: Job, k: int) -> Calibration:
    """What the k-th merged model looks at: samples of its own, those of all, or synthetic ones where none are given.

    Raises UsageError where samples are neither one for all nor one of each model, BadCalibration.
    """
    models = models_of(job)
    if len(job.calib) not in (0, 1, len(models)):
        raise UsageError(
            f"There are {len(job.calib)} --calib for {len(models)} models.", "Give one for all, or one of each."
        )
    read_by = models[k] if len(job.calib) > 1 else job.aligned.models[0]
    session = open_session(read_by)
    if not job.calib:
        return synthesize(session.inputs, read_by, SYNTHETIC_SAMPLES, job.recipe.seed, run=session.run)
    return Calibration.open(job.calib[k if len(job.calib) > 1 else 0], session.inputs, seed=job.recipe.seed)


def all_samples(job: Job) -> tuple[Calibration, ...]:
    """`samples_of` each model; where all look at the same ones, these alone."""
    first = samples_of(job, 0)
    return (first, *(samples_of(job, k) for k in range(1, len(models_of(job))))) if len(job.calib) > 1 else (first,)


def samples_by_model(job: Job) -> tuple[Calibration, ...]:
    """`samples_of` every model, opened once where all look at the same ones."""
    found = all_samples(job)
    return found if len(found) > 1 else found * len(models_of(job))


def notes_of(job: Job) -> tuple[str, ...]:
    """What the user is to know of the samples."""
    return () if job.calib else (SYNTHETIC,)


def metric_of(job: Job, samples: Sequence[Calibration]) -> object:
    """The metric asked for, else top1. Raises UsageError where there is none, and no labels for top1."""
    if job.metric is not None:
        return job.metric
    if all(LABELS & set(one.labels) for one in samples):
        return "top1"
    raise UsageError(
        f"'{job.recipe.settings.method}' needs to know what is better, and the samples have no labels.",
        "Give --metric, or samples with an array named 'label'.",
    )


def open_session(model: Model, outputs: Sequence[str] = ()) -> Session:
    """Of the reference runtime. outputs: names of values to return besides the model's own"""
    return backends.get(backends.REFERENCE).session(model, find_target("host"), outputs, lean=True)


def statistics(
    model: Model,
    samples: Calibration,
    nodes: Iterable[ir.Node] | None = None,
    *,
    gram: bool = True,
    channels: bool = False,
    values: Collection[str] | None = None,
    seed: int = 0,
) -> dict[str, LayerStats]:
    """LayerStats by the name of the node. nodes: of the main graph, None: all that have a weight matrix

    gram, channels, values: as `collect` takes them; values None: the inputs that Gram matrices are of, unless
    channels are asked for
    """
    chosen = [node for node in model.graph if rows_of(node) is not None] if nodes is None else list(nodes)
    if values is None and gram and not channels:
        read = (node.inputs[at[0]] for node in chosen if (at := rows_of(node)) is not None)
        values = {value.name or "" for value in read if value is not None}
    sites = [Site(node.name or "", node.op_type) for node in chosen]
    found = collect(
        model, sites, named_for(samples, model), open_session, gram=gram, channels=channels, values=values, seed=seed
    )
    return {site.name: stats for site, stats in found.items()}


def reader_of(model: Model, values: Iterable[ir.Value]) -> Callable[[Feeds], Feeds]:
    """What gives these values of the main graph by name, beside the feeds, and computes no more than they take."""
    cuts = Cuts(model, (), 1)
    part = cuts.between(list(model.graph.inputs), values)
    if not part.nodes:
        return lambda feeds: feeds
    session = open_session(cuts.submodel(part))
    return lambda feeds: {**feeds, **session.run({name: feeds[name] for name in part.input_names})}


def outputs_of(model: Model, samples: Calibration) -> Spool:
    """What a model answers, sample by sample."""
    session, spool = open_session(model), Spool()
    for feeds in named_for(samples, model).feeds():
        spool.append(session.run(feeds))
    return spool


def score(model: Model, samples: Calibration, metric: object, wanted: Sequence[Outputs] | Spool | None = None) -> float:
    """The metric of a model over samples; higher is better.

    metric: as `find_metric` takes it;  wanted: outputs by sample, for metrics that compare with those of an original
    Raises UsageError for such a metric where there are none.
    """
    answers = outputs_of(model, samples)
    return scored(answers, samples, resolved(metric, model, answers), wanted)


def resolved(metric: object, model: Model, answers: Spool) -> Metric:
    """The metric that a name or an object stands for."""
    return find_metric(metric, class_outputs(model, answers[0]))


def scored(
    answers: Iterable[Outputs], samples: Calibration, metric: Metric, wanted: Sequence[Outputs] | Spool | None = None
) -> float:
    """The metric of answers that are there, by sample."""
    if metric.streaming is not None:
        stream = metric.streaming()
        for outputs, sample in zip(answers, samples, strict=True):
            stream.update(outputs, sample)
        return float(stream.compute())
    assert metric.score is not None
    if wanted is None and metric.name in ("fidelity", "cosine", "mse"):
        raise UsageError(f"The metric '{metric.name}' compares with an original, and a merge has none.", "Use another.")
    total = 0.0
    for index, (outputs, sample) in enumerate(zip(answers, samples, strict=True)):
        total += metric.score(outputs, sample, outputs if wanted is None else wanted[index])
    return total / len(samples)


def named_for(samples: Calibration, model: Model) -> Calibration:
    """The samples under the names of this model's inputs, in their order. Raises BadCalibration."""
    names = tuple(value.name or "" for value in model.graph.inputs if not value.is_initializer())
    if set(names) == set(samples.names):
        return samples
    if len(names) != len(samples.inputs):
        raise BadCalibration(f"{model.name} takes {len(names)} inputs, the samples are of {len(samples.inputs)}.")
    called = dict(zip(samples.names, names, strict=True))
    ports = tuple(replace(port, name=called[port.name]) for port in samples.inputs)
    return replace(samples, store=_Renamed(samples.store, called), inputs=ports)


@dataclass(frozen=True)
class _Renamed:
    """Samples whose inputs go by other names. called: name -> the other"""

    store: Samples
    called: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Sample:
        return {self.called.get(name, name): array for name, array in self.store[index].items()}

    def origin(self, index: int) -> str:
        return self.store.origin(index)
