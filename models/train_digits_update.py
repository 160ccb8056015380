"""An old digits model and one retrained on newer data: `python -m lwc.models.train_digits_update FOLDER`.

Writes old.onnx and new.onnx for `lwc merge --method bcwi`. The old one learned from a quarter of the training images;
the new one begins with its weights and learns from another quarter. The half that is left, `held_out`, neither has
seen. Needs the `train` extra. Same seed, torch version and thread count give the same weights. Some ten seconds.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from lwc.models import digits
from lwc.models.train_digits import accuracy, export, shifted

_THREADS = 1
_BATCH = 32
_PARTS = 4
_OLD, _NEW = 0, 2  # parts of the training images
_EPOCHS = {"old": 120, "new": 60}
_RATE = {"old": 6e-3, "new": 6e-3}


def network() -> nn.Sequential:
    """Three convolutions of stride 2, mean over places: some 15,000 weights."""
    layers: list[nn.Module] = []
    for channels in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(*channels, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def held_out() -> list[digits.Sample]:
    """Samples of the training part that neither model has seen, for `--calib`."""
    return digits.samples("calibration")[1::2]


def train(net: nn.Sequential, part: int, epochs: int, rate: float) -> None:
    """Train in place on a part of the training images; AdamW with one warm-up and cosine cycle."""
    images, labels = (torch.from_numpy(array[part::_PARTS].copy()) for array in digits.arrays("calibration"))
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.05)
    steps = epochs * math.ceil(len(images) / _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(_BATCH):
            loss = functional.cross_entropy(net(shifted(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def trained(seed: int = 0) -> dict[str, nn.Sequential]:
    """The old and the new network."""
    torch.manual_seed(seed)
    torch.set_num_threads(_THREADS)
    torch.use_deterministic_algorithms(True)
    old, new = network(), network()
    train(old, _OLD, _EPOCHS["old"], _RATE["old"])
    new.load_state_dict(old.state_dict())
    train(new, _NEW, _EPOCHS["new"], _RATE["new"])
    return {"old": old, "new": new}


def main() -> None:
    """Train both and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, net in trained(options.seed).items():
        export(net, options.folder / f"{name}.onnx")
        print(f"{name}.onnx: held-out accuracy {accuracy(net):.4f}", flush=True)


if __name__ == "__main__":
    main()
