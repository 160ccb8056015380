"""Time to open, clean and save graphs of 10,000 and 20,000 nodes.

    python tests/benchmarks/graph_scale.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import onnx

from lwc import passes
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import host
from lwc.models import structures


def seconds(nodes: int, folder: Path) -> float:
    source = folder / f"{nodes}.onnx"
    if not source.exists():
        onnx.save(structures.chain(nodes), source)
    start = time.perf_counter()
    model = Model.open(source)
    passes.clean(host()).run(model.ir, PassContext(host()))
    model.save(folder / "out.onnx")
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        rounds = [(seconds(10_000, Path(name)), seconds(20_000, Path(name))) for _ in range(3)]
    small, large = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"10,000 nodes: {small:.1f} s (asked 20); 20,000: {large:.1f} s, {large / small:.2f}x (asked 2.2x)")


if __name__ == "__main__":
    main()
