"""Statistics of activations: calibration samples streamed once through the model, in bounded memory.

Values that several sites share are accumulated once. When what is fetched at a time (the runtime's tensor and its
copy as an array) and the accumulators would pass the memory bound, values are taken in groups and the samples
streamed once per group. A group changes nothing in the result: each value has accumulators of its own. Large Gram
matrices move to files when their group is done.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.rows import Rows, rows_of
from lwc.compiler.analysis.value_sizes import value_sizes
from lwc.compiler.core.accumulate import (
    GRAM_FEATURES,
    HISTOGRAM_BYTES,
    GramAccumulator,
    TensorAccumulator,
    is_float,
    working_type,
)
from lwc.compiler.core.backend import Array, Feeds, Session
from lwc.compiler.core.errors import InternalError
from lwc.compiler.core.mapped import kept_in_file
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats, TensorStats
from lwc.compiler.data import Calibration

OpenSession = Callable[[Model, Sequence[str]], Session]

_FLOATS = frozenset(
    kind for kind in ir.DataType if kind.name.startswith(("FLOAT", "BFLOAT", "DOUBLE")) and kind.name != "FLOAT4E2M1"
)
# A fetched value exists as the runtime's tensor and as numpy's array.
_COPIES = 2
# Rows that a Gram matrix is made of: so many in all, or so many times its features if that is more. A sample gives
# an even share; its positions beyond are left out at random.
_ROWS = 16384
_ROWS_PER_FEATURE = 8
_LEAST_ROWS = 64

# Operators whose feature axis is the second, or the last.
_SECOND = frozenset(
    {
        "Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "PRelu",
        "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "DepthToSpace", "SpaceToDepth",
    }
)  # fmt: skip
_LAST = frozenset(
    {"MatMul", "Gemm", "LayerNormalization", "RMSNormalization", "SkipLayerNormalization", "LSTM", "GRU", "RNN"}
)


def collect(
    model: Model,
    sites: Sequence[Site],
    calibration: Calibration,
    open_session: OpenSession,
    *,
    gram: bool = False,
    channels: bool = False,
    max_memory_bytes: int = 1_000_000_000,
    progress: Callable[[int, int], None] | None = None,
    values: Collection[str] | None = None,
    seed: int = 0,
) -> dict[Site, LayerStats]:
    """LayerStats of each site over all samples.

    sites: nodes of the main graph (subgraphs and functions are not looked into)
    open_session: a session of (model, value names) whose run returns these values besides the outputs
    gram: also E[x x^T] of each layer's first activation;  channels: also moments per channel
    max_memory_bytes: what fetched values and accumulators may take, beside the session and what is returned
    progress: told (runs done, runs in all);  values: only these value names (None: all inputs and outputs of sites)
    seed: of the positions a Gram matrix is taken from when a sample has too many
    """
    layers = _nodes_at(model, sites)
    tasks = _tasks(layers.values(), len(calibration), gram, channels, values, seed)
    largest = calibration.largest()
    sizes = _sizes(model, tasks, largest, open_session, max_memory_bytes)
    groups = _groups(tasks, sizes, max_memory_bytes)
    total, done = len(groups) * len(calibration), 0
    for group in groups:
        session = open_session(model, _fetched(model, group, largest))
        for index, feeds in enumerate(calibration.feeds()):
            _accumulate(session, feeds, [tasks[name] for name in group], index)
            done += 1
            if progress is not None:
                progress(done, total)
        del session
        for name in group:
            tasks[name].finish()
    tensors = {name: task.tensor.finish() for name, task in tasks.items() if task.seen}
    return {site: _layer_stats(node, tasks, tensors) for site, node in layers.items()}


def _nodes_at(model: Model, sites: Sequence[Site]) -> dict[Site, ir.Node]:
    nodes = model.by_name()
    missing = [site.name for site in sites if site.name not in nodes]
    if missing:
        raise InternalError(f"{model.name}: no node is named '{missing[0]}'.")
    return {site: nodes[site.name] for site in sites}


@dataclass
class _Task:
    """All that is accumulated about one value."""

    name: str
    tensor: TensorAccumulator
    samples: int
    seed: int
    grams: dict[Rows, GramAccumulator] = field(default_factory=dict)
    finished: dict[Rows, Array | None] = field(default_factory=dict)
    seen: bool = False

    def update(self, array: Array, index: int) -> None:
        if not is_float(array.dtype):
            return
        self.seen = True
        self.tensor.update(array)
        for rows, gram in self.grams.items():
            # Named by value and sample, so that positions do not depend on grouping.
            digest = hashlib.blake2b(f"{self.name}/{index}/{rows}".encode(), digest_size=8).digest()
            rng = np.random.default_rng([self.seed, int.from_bytes(digest, "little")])
            limit = max(_LEAST_ROWS, math.ceil(_rows_wanted(rows) / self.samples))
            gram.update(rows.of(array.astype(working_type(array.dtype), copy=False), limit, rng))

    def finish(self) -> None:
        """Gram matrices in place of their accumulators: once, so that sites share one array."""
        while self.grams:
            rows, accumulator = self.grams.popitem()
            gram = accumulator.finish()
            self.finished[rows] = None if gram is None else kept_in_file(gram)

    def accumulator_bytes(self) -> int:
        squares = sum(2 * 8 * rows.groups * rows.features**2 for rows in self.grams)
        widths = [4 * rows.groups * rows.features * _rows_wanted(rows) // self.samples for rows in self.grams]
        return HISTOGRAM_BYTES + squares + _COPIES * max(widths, default=0)


def _rows_wanted(rows: Rows) -> int:
    return max(_ROWS, _ROWS_PER_FEATURE * rows.features)


def _tasks(
    nodes: Iterable[ir.Node], samples: int, gram: bool, channels: bool, values: Collection[str] | None, seed: int
) -> dict[str, _Task]:
    tasks: dict[str, _Task] = {}
    for node in nodes:
        for value in (*node.inputs, *node.outputs):
            if value is None or not value.name or not _is_activation(value):
                continue
            if value.name not in tasks and (values is None or value.name in values):
                axis = _channel_axis(value) if channels else None
                tasks[value.name] = _Task(value.name, TensorAccumulator(axis), samples, seed)
        found = _gram_source(node) if gram else None
        if found is not None and found[0] in tasks:
            name, rows = found
            tasks[name].grams.setdefault(rows, GramAccumulator())
    return tasks


def _is_activation(value: ir.Value) -> bool:
    tensor = value.type is None or isinstance(value.type, ir.TensorType)
    return tensor and value.const_value is None and (value.dtype is None or value.dtype in _FLOATS)


def _gram_source(node: ir.Node) -> tuple[str, Rows] | None:
    found = rows_of(node)
    if found is None:
        return None
    index, rows = found
    value = node.inputs[index]
    if value is None or not value.name or not 0 < rows.features <= GRAM_FEATURES:
        return None
    return value.name, rows


def _channel_axis(value: ir.Value) -> int | None:
    """The feature axis as the operators around see it; else the second of four or more axes, or the last."""
    around = {usage.node.op_type for usage in value.uses()}
    producer = value.producer()
    if producer is not None:
        around.add(producer.op_type)
    if around & _SECOND:
        return 1
    if around & _LAST:
        return -1
    return 1 if value.shape is not None and len(value.shape) >= 4 else -1


def _sizes(
    model: Model, tasks: Mapping[str, _Task], sample: Feeds, open_session: OpenSession, max_memory_bytes: int
) -> dict[str, int]:
    """Bytes of each value for the largest sample: from shape inference, else by running it in parts."""
    sizes = {name: sample[name].nbytes for name in tasks if name in sample}
    inferred = value_sizes(model, sample)
    sizes |= {name: inferred[name] for name in tasks if name in inferred}
    unknown = [name for name in tasks if name not in sizes]
    at_once, largest = 1, 1
    while unknown:
        probed, unknown = unknown[:at_once], unknown[at_once:]
        session = open_session(model, _fetched(model, probed, sample))
        found = session.run(sample)
        sizes.update({name: found[name].nbytes for name in probed})
        del session, found
        largest = max(largest, *(sizes[name] for name in probed))
        at_once = max(1, min(4 * at_once, max_memory_bytes // (_COPIES * largest)))
    return sizes


def _groups(tasks: Mapping[str, _Task], sizes: Mapping[str, int], max_memory_bytes: int) -> list[list[str]]:
    """Values in the order of sites, cut where the next would pass the bound; a group has one value at least."""
    groups: list[list[str]] = []
    used = math.inf
    for name, task in tasks.items():
        cost = _COPIES * sizes.get(name, 0) + task.accumulator_bytes()
        if used + cost > max_memory_bytes:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += cost
    return groups


def _fetched(model: Model, names: Iterable[str], sample: Feeds) -> list[str]:
    """Those names that a run returns only when asked: neither fed nor outputs of the graph."""
    outputs = {value.name for value in model.graph.outputs}
    return [name for name in names if name not in sample and name not in outputs]


def _accumulate(session: Session, feeds: Feeds, tasks: Sequence[_Task], index: int) -> None:
    results = session.run(feeds)
    for task in tasks:
        # Popped, so that each array is freed as soon as it is counted.
        array = feeds[task.name] if task.name in feeds else results.pop(task.name)
        task.update(array, index)


def _layer_stats(node: ir.Node, tasks: Mapping[str, _Task], tensors: Mapping[str, TensorStats]) -> LayerStats:
    def of(values: Iterable[ir.Value | None]) -> tuple[TensorStats | None, ...]:
        return tuple(None if value is None else tensors.get(value.name or "") for value in values)

    found = _gram_source(node)
    gram = None
    if found is not None and found[0] in tasks:
        gram = tasks[found[0]].finished.get(found[1])
    return LayerStats(of(node.inputs), of(node.outputs), gram)
