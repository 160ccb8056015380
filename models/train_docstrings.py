"""Train the docstring decoder and write it as ONNX: `python -m lwc.models.train_docstrings`.

Needs the `train` extra. The committed files came from torch 2.13.0, the standard library of Python 3.11.7 and
`--steps 1500 --threads 1`: seven minutes of one core, 2.02 bits per byte held out (a table of bigrams: 3.86).
Docstrings of a top-level module are held out together, chosen by the hash of its name.
"""

from __future__ import annotations

import argparse
import ast
import math
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from lwc.models import docstrings

_BATCH = 32
_RATE = 3e-3
_LAYERS, _WIDTH, _HEADS = 5, 128, 4
_OPSET = 17
_HELD_OUT_EVERY = 8
_WINDOWS = 256
_LEFT_OUT = frozenset(("test", "tests", "site-packages", "dist-packages"))


def corpus(held_out: bool) -> NDArray[np.uint8]:
    """All docstrings of one part as ASCII codes, each once and closed by 0, in the order of their files."""
    seen: dict[str, None] = {}
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        inside = file.relative_to(sysconfig.get_paths()["stdlib"])
        chosen = crc32(inside.parts[0].removesuffix(".py").encode()) % _HELD_OUT_EVERY == 0
        if chosen == held_out and not _LEFT_OUT & set(inside.parts):
            seen.update(dict.fromkeys(_docstrings(file)))
    joined = "".join(f"{found}\0" for found in seen)
    return np.frombuffer(joined.encode("ascii", "replace"), dtype=np.uint8)


def _docstrings(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # templates and samples of broken code
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from filter(None, [ast.get_docstring(node)])


class Attention(nn.Module):
    """Causal multi-head self-attention with one projection to queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        future = torch.full((docstrings.CONTEXT, docstrings.CONTEXT), -1e4).triu(1)
        self.register_buffer("future", future, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (-1, docstrings.CONTEXT, 3, _HEADS, _WIDTH // _HEADS)
        query, key, value = self.project(x).reshape(shape).permute(2, 0, 3, 1, 4).unbind()
        scores = query @ key.transpose(2, 3) / math.sqrt(_WIDTH // _HEADS) + self.future
        y = functional.softmax(scores, dim=-1) @ value
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(_WIDTH), Attention(), nn.LayerNorm(_WIDTH)
        self.feed_forward = nn.Sequential(nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Decoder(nn.Module):
    """Tokens [N, 128] -> logits [N, 128, vocabulary]: five blocks of width 128, some 1,040,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(docstrings.VOCABULARY, _WIDTH)
        self.positions = nn.Parameter(torch.randn(docstrings.CONTEXT, _WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block() for _ in range(_LAYERS)))
        self.norm, self.head = nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, docstrings.VOCABULARY, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for block in self.blocks:
            for closing in (block.attention.out, block.feed_forward[2]):
                nn.init.normal_(closing.weight, std=0.02 / math.sqrt(2 * _LAYERS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.blocks(self.embedding(tokens) + self.positions)))


def train(text: NDArray[np.uint8], steps: int, threads: int, seed: int) -> nn.Module:
    """AdamW over random windows with one warm-up and cosine cycle; forward passes in bfloat16."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    stream = torch.from_numpy(text.astype(np.int64))
    net = Decoder()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.1, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=0.1)
    reach = torch.arange(docstrings.CONTEXT + 1)
    begun, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        rows = stream[torch.randint(len(stream) - docstrings.CONTEXT, (_BATCH, 1)) + reach]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(rows[:, :-1])
        loss = functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item() / math.log(2)
        if step % 100 == 0:
            print(f"step {step}/{steps}: {total / 100:.3f} bits per byte, {time.monotonic() - begun:.0f} s", flush=True)
            total = 0.0
    return net.eval()


def windows(text: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """[_WINDOWS, 129] pieces of the text that do not overlap, drawn by seed."""
    length = docstrings.CONTEXT + 1
    pieces = text[: len(text) // length * length].reshape(-1, length)
    return pieces[np.sort(np.random.default_rng(seed).permutation(len(pieces))[:_WINDOWS])]


def bits_per_byte(net: nn.Module, rows: NDArray[np.uint8]) -> float:
    """Cross-entropy of the float model over windows, in bits."""
    tokens = torch.from_numpy(rows.astype(np.int64))
    with torch.no_grad():
        loss = functional.cross_entropy(net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    return float(loss) / math.log(2)


def bigram_bits(text: NDArray[np.uint8], rows: NDArray[np.uint8]) -> float:
    """What a table of pairs of characters with one added to each count scores on the same windows."""
    counts = np.ones((docstrings.VOCABULARY, docstrings.VOCABULARY))
    np.add.at(counts, (text[:-1], text[1:]), 1)
    share = counts / counts.sum(axis=1, keepdims=True)
    return float(-np.log2(share[rows[:, :-1], rows[:, 1:]]).mean())


def export(net: nn.Module, path: Path) -> None:
    """Write ONNX with a dynamic batch axis "N"."""
    example = torch.zeros(2, docstrings.CONTEXT, dtype=torch.int64)
    torch.onnx.export(
        net, (example,), path, input_names=["tokens"], output_names=["logits"], opset_version=_OPSET,
        dynamic_axes={"tokens": {0: "N"}, "logits": {0: "N"}}, dynamo=False,
    )  # fmt: skip


def main() -> None:
    """Train, and write the model and the windows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=docstrings.path().parent, help="where to write")
    options = parser.parse_args()
    text, unseen = corpus(held_out=False), corpus(held_out=True)
    calibration, test = windows(text, options.seed), windows(unseen, options.seed)
    print(f"{len(text)} characters to train on, {len(unseen)} held out", flush=True)
    net = train(text, options.steps, options.threads, options.seed)
    path = options.folder / docstrings.path().name
    export(net, path)
    np.savez_compressed(path.with_suffix(".npz"), calibration=calibration, test=test)
    print(
        f"{path.name}: {path.stat().st_size} bytes; held out {bits_per_byte(net, test):.4f} bits per byte,"
        f" bigrams {bigram_bits(text, test):.4f}"
    )


if __name__ == "__main__":
    main()
