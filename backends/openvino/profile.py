"""Time per node from OpenVINO's performance counters.

An executed kernel lists the friendly names of all that was fused into it; the ONNX reader gives a node's name to the
last operator that it makes of the node (seen with 2026.4). So the time of a kernel goes

    to the products among its names          Conv + bias + Relu is the Conv's time
    else to the others but the conversions   what is left of Quantize -> Add -> Dequantize is the Add's time
    else to whoever reads its result         reorders that OpenVINO put in, and first parts of a node
    else to whoever made what it reads       reorders in front of an output

in even shares when there are several, as in a chain of elementwise operators that run as one.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import openvino as ov

from lwc.compiler.analysis.sites import SITE_KEY

LAYERS = "originalLayersNames"
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "LSTM", "GRU", "RNN"})
CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "CastLike"})


@dataclass(frozen=True)
class Kernel:
    """An executed operator. layers: names of what it is made of;  readers: names of kernels that take its result"""

    name: str
    layers: tuple[str, ...]
    readers: tuple[str, ...]


def milliseconds_by_node(
    kernels: Sequence[Kernel], runs: Sequence[Mapping[str, float]], model: ir.Model
) -> dict[str, float]:
    """Median over runs of each kernel's milliseconds, given to the nodes of `model` that it stands for.

    runs: milliseconds by kernel name. A kernel that leads to no node keeps its own name.
    """
    owners = Owners(kernels, model)
    total: dict[str, float] = defaultdict(float)
    for name in dict.fromkeys(name for run in runs for name in run):
        median = statistics.median(run.get(name, 0.0) for run in runs)
        nodes = owners.of(name) or (name,)
        for node in nodes:
            total[node] += median / len(nodes)
    return dict(total)


class Owners:
    """Finds the nodes of a model that a kernel stands for.

    OpenVINO names an operator after its node, after the value it makes when that is an output of the graph, or after
    both when the node has several outputs.
    A node that a pass made as part of a site says so in its metadata, under SITE_KEY.
    """

    def __init__(self, kernels: Sequence[Kernel], model: ir.Model) -> None:
        self._kernels = {kernel.name: kernel for kernel in kernels}
        self._readers = {kernel.name: list(kernel.readers) for kernel in kernels}
        self._writers: dict[str, list[str]] = defaultdict(list)
        for kernel in kernels:
            for reader in kernel.readers:
                self._writers[reader].append(kernel.name)
        self._nodes = {node.name: node for node in model.graph.all_nodes() if node.name}
        self._makers = {
            name: node
            for node in self._nodes.values()
            for value in node.outputs
            for name in (value.name, f"{node.name}_{value.name}")
        }

    def of(self, kernel: str) -> tuple[str, ...]:
        """Names of the sites, or nodes, to share the kernel's time."""
        return self._nearest(kernel, self._readers) or self._nearest(kernel, self._writers)

    def _nearest(self, kernel: str, steps: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        seen: set[str] = set()
        front = [kernel]
        while front:
            found = dict.fromkeys(site for name in front for site in self._own(name))
            if found:
                return tuple(found)
            seen.update(front)
            front = [name for near in front for name in steps.get(near, ()) if name not in seen]
        return ()

    def _own(self, kernel: str) -> Iterator[str]:
        known = self._kernels.get(kernel)
        names = (kernel, *known.layers) if known else (kernel,)
        nodes = [node for name in names if (node := self._nodes.get(name) or self._makers.get(name)) is not None]
        products = [node for node in nodes if node.op_type in PRODUCTS]
        others = [node for node in nodes if node.op_type not in CONVERSIONS]
        for node in products or others or nodes:
            yield node.metadata_props.get(SITE_KEY, node.name or "")


def kernels_of(compiled: ov.CompiledModel) -> list[Kernel]:
    """The executed operators of a compiled model."""
    found = []
    for op in compiled.get_runtime_model().get_ordered_ops():
        layers = str(op.get_rt_info()[LAYERS].value)
        readers = tuple(
            reader.get_node().get_friendly_name() for output in op.outputs() for reader in output.get_target_inputs()
        )
        found.append(Kernel(op.get_friendly_name(), tuple(filter(None, layers.split(","))), readers))
    return found


def counted(request: ov.InferRequest) -> dict[str, float]:
    """Milliseconds by kernel of the last run; what was optimized out took none and is left out."""
    times: dict[str, float] = defaultdict(float)
    for info in request.profiling_info:
        if info.status == ov.ProfilingInfo.Status.EXECUTED:
            times[info.node_name] += 1e3 * info.real_time.total_seconds()
    return dict(times)
