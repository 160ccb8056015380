"""Seconds to find the coupled channel groups of graphs of 2,500 to 20,000 nodes.

    python tests/benchmarks/channel_scale.py

Inverted residual blocks with a Split, a swapped Concat and a gate each, all on one residual stream.
"""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.shapes import infer_shapes

BLOCKS = (278, 556, 1112, 2224)
WIDTH, INNER = 16, 32


def chain(blocks: int) -> ir.Model:
    """A network of nine nodes a block."""
    rng = np.random.default_rng(0)
    shapes = {"stem": (WIDTH, 3, 1, 1)}
    nodes = [helper.make_node("Conv", ["x", "stem"], ["v0"], name="first")]
    for k in range(blocks):
        shapes |= {f"w{k}": (INNER, WIDTH, 1, 1), f"d{k}": (INNER, 1, 1, 1), f"p{k}": (WIDTH, INNER, 1, 1)}
        steps = [
            ("Conv", [f"v{k}", f"w{k}"], ["a"], {}),
            ("Relu", ["a"], ["b"], {}),
            ("Conv", ["b", f"d{k}"], ["c"], {"group": INNER}),
            ("Split", ["c"], ["left", "right"], {"axis": 1}),
            ("Concat", ["right", "left"], ["e"], {"axis": 1}),
            ("Sigmoid", ["e"], ["g"], {}),
            ("Mul", ["e", "g"], ["m"], {}),
            ("Conv", ["m", f"p{k}"], ["o"], {}),
            ("Add", [f"v{k}", "o"], [f"v{k + 1}"], {}),
        ]
        known = {*shapes, f"v{k}", f"v{k + 1}"}
        for op, reads, makes, attributes in steps:
            inputs, outputs = ([name if name in known else f"{name}.{k}" for name in row] for row in (reads, makes))
            nodes.append(helper.make_node(op, inputs, outputs, name=f"{outputs[0]}.node", **attributes))
    nodes.append(helper.make_node("GlobalAveragePool", [f"v{blocks}"], ["y"], name="last"))
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 8, 8]), ("y", [1, WIDTH, 1, 1]))
    )
    graph = helper.make_graph(nodes, "chain", [x], [y], weights)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    infer_shapes(model)
    return model


def main() -> None:
    for blocks in BLOCKS:
        model = chain(blocks)
        onnx.checker.check_model(ir.to_proto(model))
        start = time.perf_counter()
        channels = find_channels(model)
        print(f"{len(model.graph)} nodes, {len(channels.groups)} groups: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
