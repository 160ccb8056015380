"""Between an old model and one retrained on newer data (BCWI): negative flips and accuracy, on unseen images.

    python tests/benchmarks/merge_updates.py [--seeds 6]

Each seed trains a pair (lwc.models.train_digits_update). The coefficient is chosen on the half of the training images
that neither model has seen; what is shown is counted on the 599 test images.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import lwc
from lwc.compiler.core.model import Model
from lwc.compiler.merging.evidence import open_session
from lwc.models import digits, train_digits_update
from lwc.models.train_digits import export


def right(model: Model) -> np.ndarray:
    """Which of the test images it classifies right: [599]"""
    images, labels = digits.arrays("test")
    (logits,) = open_session(model).run({"x": images}).values()
    return np.asarray(logits.argmax(1) == labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    held_out = train_digits_update.held_out()
    print(f"{'seed':>5} {'share':>6} {'old':>7} {'new':>7} {'bcwi':>7}   negative flips of new, bcwi")
    totals = []
    for seed in range(parser.parse_args().seeds):
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{name}.onnx" for name in ("old", "new")]
            for path, net in zip(paths, train_digits_update.trained(seed).values(), strict=True):
                export(net, path)
            merged = lwc.merge(paths, method="bcwi", calib=[held_out])
            old, new, between = (right(model) for model in (*map(Model.open, paths), merged.model))
        (curve,) = merged.curves
        flips = [int((old & ~other).sum()) for other in (new, between)]
        totals.append([old.mean(), new.mean(), between.mean(), *flips])
        share = curve.x[curve.chosen]
        print(f"{seed:5} {share:6.2f} {old.mean():7.4f} {new.mean():7.4f} {between.mean():7.4f}   {flips}", flush=True)
    found = np.array(totals)
    scores = " ".join(f"{score:7.4f}" for score in found[:, :3].mean(0))
    print(f" mean {'':6} {scores}   {found[:, 3:].sum(0).astype(int).tolist()} together")


if __name__ == "__main__":
    main()
