"""Fine-tune a committed digits model on each shift of the data: `python -m lwc.models.train_shifted_digits FOLDER`.

Writes rotated.onnx, noisy.onnx and inverted.onnx, which `lwc merge --base` merges. Needs the `train` extra. Same seed,
torch version and thread count give the same weights. Noise is drawn anew for every batch.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional

from lwc.compiler.core.model import Model
from lwc.compiler.recover.program import Program
from lwc.models import digits, shifted_digits

_THREADS = 2
_BATCH = 64
_EPOCHS = {"cnn": 4, "transformer": 8, "gru": 8}
_RATE = {"cnn": 5e-4, "transformer": 5e-4, "gru": 1e-3}


def fine_tune(kind: digits.Kind, shift: shifted_digits.Shift, epochs: int, seed: int = 0) -> Model:
    """The committed model after some epochs on the shifted training part; AdamW, the rate falling as a cosine."""
    torch.manual_seed(seed)
    torch.set_num_threads(_THREADS)
    torch.use_deterministic_algorithms(True)
    model = Model.open(digits.path(kind))
    program = Program(model)
    weights = {name: w.clone().requires_grad_() for name, w in program.weights.items() if w.is_floating_point()}
    images, labels = (torch.from_numpy(array) for array in shifted_digits.arrays(shift, "calibration"))
    plain = torch.from_numpy(digits.arrays("calibration")[0])
    steps = epochs * math.ceil(len(images) / _BATCH)
    optimizer = torch.optim.AdamW(weights.values(), _RATE[kind], weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(_BATCH):
            x = images[batch]
            if shift == "noisy":
                x = plain[batch] + shifted_digits.NOISE * torch.randn_like(x)
            (logits,) = program.run({"x": x}, program.outputs, weights).values()
            optimizer.zero_grad()
            functional.cross_entropy(logits, labels[batch], label_smoothing=0.05).backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.step()
            schedule.step()
    for name, weight in weights.items():
        model.graph.initializers[name].const_value = ir.tensor(weight.detach().numpy(), name=name)
    return model


def accuracy(model: Model, shift: shifted_digits.Shift) -> float:
    """Share of the held-out images of a shift classified right."""
    images, labels = shifted_digits.arrays(shift, "test")
    program = Program(model)
    with torch.no_grad():
        (logits,) = program.run({"x": torch.from_numpy(images)}, program.outputs).values()
    return float(np.mean(logits.argmax(dim=1).numpy() == labels))


def main() -> None:
    """Fine-tune on all shifts and write the models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--kind", choices=digits.KINDS, default="transformer")
    parser.add_argument("--epochs", type=int, help="training epochs (default: by kind)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for shift in shifted_digits.SHIFTS:
        model = fine_tune(options.kind, shift, options.epochs or _EPOCHS[options.kind], options.seed)
        model.save(options.folder / f"{shift}.onnx")
        print(f"{shift}.onnx: held-out accuracy {accuracy(model, shift):.4f}", flush=True)


if __name__ == "__main__":
    main()
