"""Time of the analysis of coupled channels on graphs of 1,000, 3,000 and 10,000 nodes, and how it grows.

    python tests/benchmarks/channel_scale.py

Chains of residual blocks and of encoder layers, cleaned as `lwc compile` does before the analysis.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from lwc import passes
from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import host
from lwc.models.netbuilder import NetBuilder, float_value
from lwc.models.structures import bert

NODES = (1_000, 3_000, 10_000)
ROUNDS = 3
WIDTH = 16


def residual(nodes: int) -> onnx.ModelProto:
    """Blocks of Conv, Relu, depthwise Conv, Sigmoid gate, Concat, Conv and Add; the stream is coupled through all."""
    net = NetBuilder(np.random.default_rng(0))
    y = net.conv("x", "stem", (3, WIDTH), 3)
    blocks = nodes // 12
    for index in range(blocks):
        with net.scope(f"blocks.{index}"):
            y = _block(net, y)
    y = net.node("GlobalAveragePool", [y])
    net.gemm(net.node("Flatten", [y], axis=1), "head", (WIDTH, 10), 1.0, output="y")
    return net.model("residual", [float_value("x", [1, 3, 16, 16])], [float_value("y", [1, 10])])


def _block(net: NetBuilder, x: str) -> str:
    a = net.node("Relu", [net.conv(x, "expand", (WIDTH, 2 * WIDTH), 1)])
    a = net.node("Mul", [a, net.node("Sigmoid", [net.conv(net.node("GlobalAveragePool", [a]), "gate",
                                                           (2 * WIDTH, 2 * WIDTH), 1)])])  # fmt: skip
    b = net.node("HardSwish", [net.conv(x, "side", (WIDTH, WIDTH), 3)])
    both = net.node("Concat", [a, b], axis=1)
    return net.node("Add", [x, net.node("Relu", [net.conv(both, "reduce", (3 * WIDTH, WIDTH), 1)])])


def encoder(nodes: int) -> onnx.ModelProto:
    """A BERT with as many layers as have about this many nodes when they are clean."""
    return bert(layers=nodes // 36, hidden=32, heads=4, tokens=16, vocab=100)


def cleaned(source: onnx.ModelProto) -> ir.Model:
    model = ir.from_proto(source)
    passes.clean(host()).run(model, PassContext(host()))
    return model


def seconds(model: ir.Model) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        find_channels(model)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def table(name: str, build: Callable[[int], onnx.ModelProto]) -> None:
    """A line for each size: nodes, groups, seconds; the exponent of growth between the first and the last."""
    found = []
    for nodes in NODES:
        model = cleaned(build(nodes))
        found.append((len(model.graph), seconds(model)))
        groups = len(find_channels(model).groups)
        print(f"{name}: {found[-1][0]} nodes, {groups} groups, {found[-1][1]:.2f} s", flush=True)
    (first, quick), (last, slow) = found[0], found[-1]
    exponent = math.log(slow / quick) / math.log(last / first)
    print(f"{name}: grows as nodes^{exponent:.2f} (asked 1); {slow:.1f} s (asked 10)")


def main() -> None:
    table("residual blocks", residual)
    table("encoder", encoder)


if __name__ == "__main__":
    main()
