"""Train the digits models and write them as ONNX: `python -m lwc.models.train_digits [KIND ...]`.

Needs the `train` extra. Same seed, torch version and thread count give the same weights; the committed
files came from torch 2.13.0. Images are shifted at random by up to 3 pixels while training.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lwc.models import digits

_THREADS = 2
_BATCH = 64
_SHIFT = 3
_OPSET = 17
_EPOCHS = {"cnn": 30, "transformer": 80, "gru": 40}
_RATE = {"cnn": 2e-3, "transformer": 1e-3, "gru": 2e-3}


class Residual(nn.Module):
    """x -> relu(x + branch(x))"""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.branch(x))


def conv_bn(channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Conv without bias, then BatchNorm (the exporter folds the two)."""
    conv = nn.Conv2d(*channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels[1]))


def basic_block(width: int) -> Residual:
    """Two 3x3 convolutions around an identity."""
    return Residual(nn.Sequential(conv_bn((width, width), 3), nn.ReLU(), conv_bn((width, width), 3)))


def depthwise_block(width: int, expansion: int) -> Residual:
    """1x1 to a wider space, depthwise 3x3, 1x1 back (Sandler et al. 2018)."""
    wide = width * expansion
    return Residual(
        nn.Sequential(
            conv_bn((width, wide), 1), nn.ReLU6(), conv_bn((wide, wide), 3, groups=wide), nn.ReLU6(),
            conv_bn((wide, width), 1),
        )
    )  # fmt: skip


def separable_down(channels: tuple[int, int]) -> nn.Sequential:
    """Depthwise 3x3 of stride 2, then 1x1."""
    depthwise = conv_bn((channels[0], channels[0]), 3, stride=2, groups=channels[0])
    return nn.Sequential(depthwise, nn.ReLU(), conv_bn(channels, 1), nn.ReLU())


def cnn() -> nn.Sequential:
    """Residual and depthwise blocks over 32x32, 16x16 and 8x8: some 185,000 weights."""
    return nn.Sequential(
        conv_bn((1, 48), 3), nn.ReLU(), basic_block(48), basic_block(48),
        separable_down((48, 64)), basic_block(64), depthwise_block(64, 2),
        separable_down((64, 96)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip


class Attention(nn.Module):
    """Multi-head self-attention, spelled out so that the graph shows its MatMuls."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def split(y: torch.Tensor) -> torch.Tensor:
            return y.reshape(-1, y.shape[1], self.heads, self.width).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = query @ key.transpose(2, 3) / math.sqrt(self.width)
        y = functional.softmax(scores, dim=-1) @ value
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Transformer(nn.Module):
    """64 patches of 4x4, two blocks of width 96, mean over patches: some 234,000 weights."""

    def __init__(self, width: int = 96, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.positions = nn.Parameter(torch.randn(1, (digits.SIZE // 4) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(y)).mean(dim=1))


class Gru(nn.Module):
    """A bidirectional GRU over the 32 rows, mean over rows: some 187,000 weights."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.rows = nn.Linear(digits.SIZE, 64)
        self.gru = nn.GRU(64, width, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Linear(2 * width, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.gru(functional.relu(self.rows(x.squeeze(1))))
        return self.head(states.mean(dim=1))


_BUILD = {"cnn": cnn, "transformer": Transformer, "gru": Gru}


def train(kind: digits.Kind, epochs: int, seed: int) -> nn.Module:
    """Train on the calibration part; AdamW with one warm-up and cosine cycle."""
    torch.manual_seed(seed)
    torch.set_num_threads(_THREADS)
    torch.use_deterministic_algorithms(True)
    images, labels = (torch.from_numpy(array) for array in digits.arrays("calibration"))
    net = _BUILD[kind]()
    steps = math.ceil(len(images) / _BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE[kind], epochs=epochs, steps_per_epoch=steps)
    for epoch in range(epochs):
        net.train()
        total = 0.0
        for batch in torch.randperm(len(images)).split(_BATCH):
            loss = functional.cross_entropy(net(shifted(images[batch])), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() / steps
        print(f"{kind} epoch {epoch + 1}/{epochs}: training loss {total:.4f}", flush=True)
    return net.eval()


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each image moved by up to `_SHIFT` pixels either way, its border repeated."""
    padded = functional.pad(images, [_SHIFT] * 4, mode="replicate")
    rows, columns = torch.randint(0, 2 * _SHIFT + 1, (2, len(images)))
    size = digits.SIZE
    moved = [image[:, r : r + size, c : c + size] for image, r, c in zip(padded, rows, columns, strict=True)]
    return torch.stack(moved)


def accuracy(net: nn.Module) -> float:
    """Share of the held-out images classified right."""
    images, labels = digits.arrays("test")
    with torch.no_grad():
        predicted = net(torch.from_numpy(images)).argmax(dim=1).numpy()
    return float(np.mean(predicted == labels))


def export(net: nn.Module, path: Path) -> None:
    """Write ONNX with a dynamic batch axis "N"."""
    example = torch.zeros(2, 1, digits.SIZE, digits.SIZE)
    torch.onnx.export(
        net, (example,), path, input_names=["x"], output_names=["logits"], opset_version=_OPSET,
        dynamic_axes={"x": {0: "N"}, "logits": {0: "N"}}, dynamo=False,
    )  # fmt: skip


def main() -> None:
    """Train and write the kinds asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=digits.KINDS, metavar="KIND", help="cnn, transformer or gru")
    parser.add_argument("--epochs", type=int, help="training epochs (default: by kind)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write (default: beside this script)")
    options = parser.parse_args()
    for kind in options.kinds:
        path = (options.folder or digits.path(kind).parent) / digits.path(kind).name
        net = train(kind, options.epochs or _EPOCHS[kind], options.seed)
        export(net, path)
        print(f"{path.name}: held-out accuracy {accuracy(net):.4f}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
