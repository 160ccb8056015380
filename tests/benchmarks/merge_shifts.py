"""Three models fine-tuned on three shifts of the digits, merged by every method: accuracy on each shift's test images.

    python -m lwc.models.train_shifted_digits FOLDER
    python tests/benchmarks/merge_shifts.py FOLDER [--samples N] [--only METHOD ...]

--kind is of the models, here and there. Methods see images of the training part alone, shifted as each model's were;
`soup` sees their labels, too. Test images are for the table.
Asked is the best method within 2 points of the mean of the specialists.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

import lwc
from lwc.compiler.core.model import Model
from lwc.compiler.merging.evidence import open_session
from lwc.models import digits, shifted_digits

ALLOWED = 0.02
BASED = {"task-arithmetic", "ties", "dare", "dare-ties", "model-stock", "opcm", "adamerging"}
CASES: dict[str, dict[str, Any]] = {
    "linear": {},
    "task-arithmetic": {"scale": 0.5},
    "ties": {"density": 0.5},
    "dare": {"density": 0.5, "scale": 0.5},
    "model-stock": {},
    "opcm": {},
    "soup": {},
    "soup, learned": {"learned": True},
    "fisher": {},
    "adamerging": {},
    "regmean": {},
    "regmean, in order": {"in_order": True},
}


def accuracies(model: Model) -> list[float]:
    """Share of the test images classified right, by shift."""
    session = open_session(model)
    found = []
    for shift in shifted_digits.SHIFTS:
        images, labels = shifted_digits.arrays(shift, "test")
        (logits,) = session.run({session.inputs[0].name: images}).values()
        found.append(float(np.mean(logits.argmax(-1) == labels)))
    return found


def row(label: str, found: list[float], note: str = "") -> str:
    return f"| {label} | {' | '.join(f'{x:.3f}' for x in found)} | {np.mean(found):.4f} | {note} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the specialists are")
    parser.add_argument("--kind", choices=digits.KINDS, default="transformer")
    parser.add_argument("--samples", type=int, default=400, help="images of each shift that methods see")
    parser.add_argument("--only", nargs="*", choices=CASES, help="these methods alone")
    options = parser.parse_args()
    paths = [options.folder / f"{shift}.onnx" for shift in shifted_digits.SHIFTS]
    calib = [shifted_digits.samples(shift, "calibration")[: options.samples] for shift in shifted_digits.SHIFTS]
    every = [accuracies(Model.open(path)) for path in paths]
    specialists = [found[k] for k, found in enumerate(every)]
    print(f"| method | {' | '.join(shifted_digits.SHIFTS)} | mean | |\n|---|---|---|---|---|---|")
    print(row("each specialist on its shift", specialists))
    print(row("base", accuracies(Model.open(digits.path(options.kind)))), flush=True)
    best = 0.0
    for label in options.only or CASES:
        method = label.split(",")[0]
        base = digits.path(options.kind) if method in BASED else None
        start = time.perf_counter()
        merged = lwc.merge(paths, base=base, method=method, calib=calib, **CASES[label])
        found = accuracies(merged.model)
        best = max(best, float(np.mean(found)))
        print(row(label, found, f"{time.perf_counter() - start:.0f} s"), flush=True)
    below = float(np.mean(specialists)) - best
    print(f"best {100 * below:.1f} points below the specialists: {'held' if below <= ALLOWED else 'not held'}")


if __name__ == "__main__":
    main()
