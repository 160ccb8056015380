"""The loss barrier between two digits CNNs of different seeds, after each way of merging them.

    python tests/benchmarks/merge_barrier.py [FOLDER]

One is the committed digits_cnn.onnx (seed 0), the other is trained from seed 1 into FOLDER, if it is not there (some
minutes). Methods see the training images without labels; losses are of the 599 test images. Barrier: the merged model's
cross entropy above the mean of the two (Ainsworth et al. 2022, at the middle of the line).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import lwc
from lwc.compiler.core.model import Model
from lwc.compiler.merging.evidence import open_session
from lwc.models import digits, train_digits

SEED, EPOCHS = 1, 8
TURNS = (("linear", False), ("rebasin", False), ("rebasin", True), ("pleas", True))


def trained(folder: Path) -> Path:
    """The second model."""
    path = folder / f"digits_cnn_{SEED}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        train_digits.export(train_digits.train("cnn", EPOCHS, SEED), path)
    return path


def loss_of(model: Model) -> tuple[float, float]:
    """Cross entropy and accuracy on the test images."""
    images, labels = digits.arrays("test")
    (logits,) = open_session(model).run({"x": images}).values()
    scores = logits.astype(np.float64)
    scores -= scores.max(1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return -float(logs[np.arange(len(labels)), labels].mean()), float(np.mean(scores.argmax(1) == labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/merge_barrier"))
    paths = [digits.path("cnn"), trained(parser.parse_args().folder)]
    print(f"{'model':28} {'loss':>8} {'accuracy':>9} {'barrier':>9} {'seconds':>8}")
    ends = [loss_of(Model.open(path)) for path in paths]
    for path, (loss, accuracy) in zip(paths, ends, strict=True):
        print(f"{path.stem:28} {loss:8.4f} {accuracy:9.4f}")
    for method, seen in TURNS:
        start = time.perf_counter()
        model = lwc.merge(paths, method=method, calib=[digits.calibration()] if seen else ()).model
        taken = time.perf_counter() - start
        loss, accuracy = loss_of(model)
        barrier = loss - sum(end for end, _ in ends) / 2
        name = f"{method}{', samples' if seen else ''}"
        print(f"{name:28} {loss:8.4f} {accuracy:9.4f} {barrier:9.4f} {taken:8.1f}", flush=True)


if __name__ == "__main__":
    main()
