"""Time per node from ONNX Runtime's profiler.

The names of executed nodes, as seen with 1.31:
    the node's own name              kernels that were not replaced, and QLinear* or QGemm made of a QDQ unit,
                                     which take the name of the float operator in its middle
    NAME + "_token_N", "_nhwc"       the same, moved to channels-last
    VALUE + "_nchwc"                 float Conv and pooling in blocked layout: the name of the value they make,
                                     behind the activation they swallowed
    NAME + "/MatMulAddFusion" ...    fusions of several nodes, after the one they grew from
"""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from lwc.compiler.analysis.sites import SITE_KEY

_KERNEL = "_kernel_time"
_SUFFIX = re.compile(r"(_token_\d+|_nchwc|_nhwc|/\w*Fusion\w*/?)$")
_QUANTIZED = re.compile(r"^(QLinear|Q|Fused|Nhwc|NhwcFused|DynamicQuantize)(?=[A-Z])")


@dataclass(frozen=True)
class Kernel:
    """One executed node. node: name of the model's node it stands for;  executed: ONNX Runtime's name and op."""

    node: str
    executed: str
    op: str
    milliseconds: float


@dataclass(frozen=True)
class Profile:
    """Median milliseconds per run of every executed node, in order of execution."""

    kernels: tuple[Kernel, ...]

    @property
    def milliseconds(self) -> dict[str, float]:
        """By the name of the model's node; what ONNX Runtime inserted stays under its own name."""
        total: dict[str, float] = defaultdict(float)
        for kernel in self.kernels:
            total[kernel.node] += kernel.milliseconds
        return dict(total)


def read_profile(path: Path, skip_runs: int, model: ir.Model) -> Profile:
    """Parse the profiler's JSON file; the first runs are warm-up and do not count."""
    runs = list(_runs(json.loads(path.read_text(encoding="utf-8"))))[skip_runs:]
    origin = Origins(model)
    times = {key: [run.get(key, 0.0) for run in runs] for key in dict.fromkeys(key for run in runs for key in run)}
    return Profile(
        tuple(Kernel(origin.of(name, op), name, op, statistics.median(ms)) for (name, op), ms in times.items())
    )


def _runs(events: list[dict[str, Any]]) -> Iterator[Mapping[tuple[str, str], float]]:
    """Milliseconds by (executed name, op) of one run after the other.

    A run's kernels start within the time span of its model_run event. A body that loops adds up.
    """
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "model_run")
    kernels = sorted((e for e in events if e["name"].endswith(_KERNEL)), key=lambda e: int(e["ts"]))
    k = 0
    for start, end in spans:
        run: dict[tuple[str, str], float] = defaultdict(float)
        while k < len(kernels) and kernels[k]["ts"] <= end:
            event = kernels[k]
            if event["ts"] >= start:
                run[event["name"].removesuffix(_KERNEL), event["args"].get("op_name", "")] += event["dur"] / 1e3
            k += 1
        yield run


class Origins:
    """Finds the node of a model that an executed node stands for.

    A node that a pass made as part of a site says so in its metadata, under SITE_KEY.
    """

    def __init__(self, model: ir.Model) -> None:
        nodes = list(model.graph.all_nodes())
        self._names = {node.name for node in nodes if node.name}
        self._sites = {node.name: node.metadata_props[SITE_KEY] for node in nodes if SITE_KEY in node.metadata_props}
        self._producers = {value.name: node for node in nodes for value in node.outputs if value.name}

    def of(self, executed: str, op: str) -> str:
        """The node's name, or `executed` itself when ONNX Runtime made the node up."""
        name = self._node(executed, op)
        return self._sites.get(name, name)

    def _node(self, executed: str, op: str) -> str:
        name = executed
        while name not in self._names and name not in self._producers:
            shorter = _SUFFIX.sub("", name)
            if shorter == name:
                return executed
            name = shorter
        if name in self._names:
            return name
        return self._main_node(self._producers[name], _QUANTIZED.sub("", op)).name or executed

    def _main_node(self, node: ir.Node, op: str) -> ir.Node:
        """Walk up from the value a fused node makes to the operator it is made of: Relu -> Add -> Conv."""
        start = node
        for _ in range(4):
            if node.op_type == op:
                return node
            producers = [value.producer() for value in node.inputs if value is not None]
            above = [producer for producer in producers if producer is not None]
            if not above:
                break
            node = next((producer for producer in above if producer.op_type == op), above[0])
        return start
