"""Time per node of what TVM runs.

TVM's kernels are fused from many nodes and keep no names of them, so times are handed out by what is known of the
order: kernels run in the order of the graph's nodes, and each convolution or matrix product is a kernel of its own.

    the k-th kernel with a product     the k-th node with multiplications, when there are as many of both
    kernels with products, else        these nodes, by their multiplications
    all other kernels                  all other nodes, by the values they write; products when there are no others
    a part that ONNX Runtime runs      its nodes, by their work
"""

from __future__ import annotations

import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from lwc.backends.tvm.session import TvmSession
from lwc.backends.tvm.work import label, microseconds
from lwc.compiler.analysis.sites import SITE_KEY, macs
from lwc.compiler.core.backend import Feeds, Session
from lwc.compiler.core.model import Model

WARM_UP_RUNS = 2
_PRODUCT = re.compile(r"conv|matmul|dense|product")
_BUILTIN = "vm.builtin."
WHOLE = ""  # a part of which only the whole time is known


@dataclass(frozen=True)
class Kernel:
    """One call of a function. milliseconds: median over runs"""

    name: str
    milliseconds: float


@dataclass(frozen=True)
class Worker:
    """A node, by the name its time is told under. macs: 0 when it multiplies nothing;  work: as in `work`"""

    name: str
    macs: float
    work: float


def profile(steps: Sequence[tuple[Session, Model]], feeds: Sequence[Feeds], runs: int) -> dict[str, float]:
    """Median milliseconds per run in each node of the models that run one after the other."""
    kernels: list[list[list[Kernel]]] = [[] for _ in steps]
    recorders = [_recorder(session) if isinstance(session, TvmSession) else None for session, _ in steps]
    for k in range(WARM_UP_RUNS + runs):
        values = dict(feeds[k % len(feeds)])
        for (session, _), recorder, series in zip(steps, recorders, kernels, strict=True):
            start = time.perf_counter()
            values |= session.run(values)
            series.append([Kernel(WHOLE, 1e3 * (time.perf_counter() - start))] if recorder is None else recorder())
    total: dict[str, float] = defaultdict(float)
    for (_, model), series in zip(steps, kernels, strict=True):
        for name, ms in shared_out(_medians(series[WARM_UP_RUNS:]), [_worker(node) for node in model.graph]).items():
            total[name] += ms
    return dict(total)


def shared_out(kernels: Sequence[Kernel], nodes: Sequence[Worker]) -> dict[str, float]:
    """Milliseconds by node's name: see above. Kernels, and nodes, in order."""
    total: dict[str, float] = defaultdict(float)
    if [kernel.name for kernel in kernels] == [WHOLE]:
        _share(kernels[0].milliseconds, nodes, lambda node: node.work, total)
        return dict(total)
    heavy, light = ([k for k in kernels if bool(_PRODUCT.search(k.name)) == wanted] for wanted in (True, False))
    products, others = ([n for n in nodes if bool(n.macs) == wanted] for wanted in (True, False))
    if len(heavy) == len(products):
        for kernel, node in zip(heavy, products, strict=True):
            total[node.name] += kernel.milliseconds
    else:
        _share(sum(kernel.milliseconds for kernel in heavy), products or nodes, lambda node: node.macs or 1.0, total)
    _share(sum(kernel.milliseconds for kernel in light), others or nodes, lambda node: node.work, total)
    return dict(total)


def _share(ms: float, nodes: Sequence[Worker], weight: Callable[[Worker], float], into: dict[str, float]) -> None:
    whole = sum(weight(node) for node in nodes)
    for node in nodes:
        into[node.name] += ms * weight(node) / whole


def _worker(node: ir.Node) -> Worker:
    return Worker(node.metadata_props.get(SITE_KEY, label(node)), float(macs(node)), microseconds(node))


def _recorder(session: TvmSession) -> Callable[[], list[Kernel]]:
    """Watch the kernels of a session; returns what gives those that ran since it was last asked."""
    ran: list[Kernel] = []
    start = [0.0]

    def watch(_: Any, name: str, before: bool, *__: Any) -> None:
        now = time.perf_counter()
        if before:
            start[0] = now
        elif not name.startswith(_BUILTIN):
            ran.append(Kernel(name, 1e3 * (now - start[0])))

    def taken() -> list[Kernel]:
        found = list(ran)
        ran.clear()
        return found

    session.machine.set_instrument(watch)
    return taken


def _medians(runs: Sequence[Sequence[Kernel]]) -> list[Kernel]:
    """Kernel by kernel; a program without branches that depend on data calls the same ones in every run."""
    same = [run for run in runs if len(run) == len(runs[0])]
    return [
        Kernel(calls[0].name, statistics.median(call.milliseconds for call in calls))
        for calls in zip(*same, strict=True)
    ]
