"""A model of 12 identical blocks that was exported with copies: what `lwc compile` leaves of its size.

    python tests/benchmarks/merge_shared.py [--precision fp32,w8,int8]

Blocks of a BERT shape, each with its own copy of the first one's weights, as exporters write a module that is called
12 times. Printed are file sizes, those of a model of one block beside them, and whether sharing changes any bit.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import lwc
from lwc.models.transformer_structure import bert

BLOCKS, HIDDEN, VOCAB, TOKENS = 12, 256, 500, 32


def model_of(blocks: int) -> onnx.ModelProto:
    """All blocks with the weights of the first."""
    proto = bert(layers=blocks, hidden=HIDDEN, heads=4, tokens=TOKENS, vocab=VOCAB)
    per_block: dict[int, list[onnx.TensorProto]] = {k: [] for k in range(blocks)}
    for node in proto.graph.node:
        owner = next((k for k in range(blocks) if f"/layer.{k}/" in node.name), None)
        if owner is None:
            continue
        for name in node.input:
            found = [tensor for tensor in proto.graph.initializer if tensor.name == name]
            if found and not any(found[0] is one for one in per_block[owner]):
                per_block[owner] += found
    for k in range(1, blocks):
        for mine, first in zip(per_block[k], per_block[0], strict=True):
            mine.raw_data = first.raw_data
    return proto


def answers(path: Path) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {port.name: rng.integers(0, 2, (1, TOKENS)) for port in session.get_inputs()}
    return list(session.run(None, feeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="fp32,w8,int8")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies = folder / "copies.onnx"
        onnx.save(model_of(BLOCKS), copies)
        onnx.save(model_of(1), folder / "one.onnx")
        size = copies.stat().st_size
        one = (folder / "one.onnx").stat().st_size
        print(f"exported with copies {size / 1e6:8.2f} MB, one block {one / 1e6:.2f} MB")
        for precision in options.precision.split(","):
            sizes = {}
            for kind in ("copies", "one"):
                out = folder / f"{kind}.{precision}"
                lwc.compile(folder / f"{kind}.onnx", out, precision=precision, backend="ort", objective="size",
                            samples=4, best_effort=True, no_cache=True)  # fmt: skip
                sizes[kind] = (out / "model.onnx").stat().st_size
            line = f"{precision:20} {sizes['copies'] / 1e6:8.2f} MB, {size / sizes['copies']:.1f}x smaller"
            print(f"{line}; one block {sizes['one'] / 1e6:.2f} MB", flush=True)
            if precision == "fp32":
                pairs = zip(answers(copies), answers(folder / "copies.fp32" / "model.onnx"), strict=True)
                print("bit-equal" if all(np.array_equal(a, b) for a, b in pairs) else "not bit-equal", flush=True)


if __name__ == "__main__":
    main()
