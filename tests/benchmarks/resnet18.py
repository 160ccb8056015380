"""ResNet-18 224x224 batch 1, random weights: speed, compile time and memory, beside onnxruntime's quantize_static.

    python tests/benchmarks/resnet18.py

Random weights say nothing about accuracy, so the budget is wide open (--max-drop 1).
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from command import compiled
from peers import ort as peers
from zoo_speed import Plain

import lwc
from lwc.compiler.measure import latency
from lwc.models import structures

SAMPLES = 32


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "resnet18.onnx"
        onnx.save(structures.resnet18(), source)
        floating = peers.session(source)
        x = floating.get_inputs()[0].name
        images = np.random.default_rng(0).normal(size=(SAMPLES, 3, 224, 224)).astype(np.float32)
        np.savez(folder / "calibration.npz", **{x: images})
        start = time.perf_counter()
        calibration = folder / "calibration.npz"
        report = compiled(source, folder / "resnet18.lwc", "--calib", calibration, "--max-drop", 1)
        seconds = time.perf_counter() - start
        samples = [{x: images[i : i + 1]} for i in range(SAMPLES)]
        peer = Plain(peers.session(peers.static(source, folder / "peer.onnx", samples, "minmax")))
        sessions = [Plain(floating), lwc.load(folder / "resnet18.lwc"), peer]
        rounds = np.array([[s.median_ms for s in latency(sessions, samples[0], seconds=2.0)] for _ in range(5)])
        before, ours, theirs = np.median(rounds, axis=0)
        print(f"float {before:.2f} ms; lwc {ours:.2f} ms ({before / ours:.2f}x); "
              f"quantize_static {theirs:.2f} ms ({before / theirs:.2f}x)")
        print(f"compile {seconds:.1f} s (asked 60), peak {report['peak_compile_memory_mb']:.0f} MB (asked 1500)")
        print(json.dumps(report["timings_s"]))


if __name__ == "__main__":
    main()
