"""Adapters folded by lwc against PEFT's merge_and_unload, each exported: outputs on the same inputs.

    pip install --no-deps peft accelerate        # beside torch, transformers, safetensors
    python tests/benchmarks/merge_lora.py

Small models of random weights with random adapters, exported by torch.onnx with and without dynamo. Printed is the
largest difference of an output over its largest value, and how far the adapter moves it: a fold that did nothing would
be that far off.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, LlamaConfig, LlamaModel

import lwc

LIMIT = 1e-5
Feeds = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Case:
    """label: what is compared;  make: a model and its inputs;  settings: of the adapter;  scale: of `lwc merge`"""

    label: str
    make: Callable[[], tuple[nn.Module, Feeds]]
    settings: dict[str, Any]
    scale: float = 1.0
    dynamo: tuple[bool, ...] = (False, True)  # the older exporter has no operator for masks of decoders


class Answers(nn.Module):
    """A transformer whose answer is one tensor."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(input_ids=ids, use_cache=False).last_hidden_state
        return found


def ids() -> Feeds:
    return (torch.randint(0, 100, (2, 12)),)


def bert() -> tuple[nn.Module, Feeds]:
    config = BertConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=96)  # fmt: skip
    config._attn_implementation = "eager"
    return Answers(BertModel(config, add_pooling_layer=False)), ids()


def llama() -> tuple[nn.Module, Feeds]:
    config = LlamaConfig(vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, intermediate_size=96, max_position_embeddings=32)  # fmt: skip
    config._attn_implementation = "eager"
    return Answers(LlamaModel(config)), ids()


def gpt2() -> tuple[nn.Module, Feeds]:
    config = GPT2Config(vocab_size=100, n_positions=32, n_embd=64, n_layer=2, n_head=4)
    config._attn_implementation = "eager"
    return Answers(GPT2Model(config)), ids()


def cnn() -> tuple[nn.Module, Feeds]:
    layers = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip
    return layers, (torch.randn(2, 3, 16, 16),)


def cases() -> list[Case]:
    attention = {"target_modules": ["query", "value", "dense"]}
    patterns = {"rank_pattern": {"query": 4}, "alpha_pattern": {r"layer\.1\.attention\.self\.value": 32}}
    projections = {"target_modules": ["q_proj", "v_proj", "down_proj"]}
    return [
        Case("bert, LoRA", bert, attention),
        Case("bert, LoRA, scale 0.5", bert, attention, scale=0.5),
        Case("bert, rslora", bert, {**attention, "use_rslora": True}),
        Case("bert, DoRA", bert, {**attention, "use_dora": True}),
        Case("bert, ranks and alphas by pattern", bert, {**attention, **patterns}),
        Case("bert, embedding", bert, {"target_modules": ["word_embeddings", "query"]}),
        Case("bert, embedding, DoRA", bert, {"target_modules": ["word_embeddings"], "use_dora": True}),
        Case("llama, LoRA", llama, projections, dynamo=(True,)),
        Case("llama, DoRA", llama, {**projections, "use_dora": True}, dynamo=(True,)),
        Case("gpt2, fan_in_fan_out", gpt2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True},
             dynamo=(True,)),
        Case("gpt2, DoRA", gpt2, {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True},
             dynamo=(True,)),
        Case("cnn, LoRA", cnn, {"target_modules": ["0", "2", "4", "7"]}),
        Case("cnn, DoRA", cnn, {"target_modules": ["0", "2", "4", "7"], "use_dora": True}),
    ]  # fmt: skip


def export(model: nn.Module, feeds: Feeds, path: Path, dynamo: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), feeds, str(path), dynamo=dynamo, verbose=False)


def answer(path: Path, feeds: Feeds) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {port.name: feed.numpy() for port, feed in zip(session.get_inputs(), feeds, strict=True)}
    found: np.ndarray = session.run(None, given)[0]
    return found


def measure(case: Case, folder: Path) -> Iterator[tuple[bool, float, float]]:
    """For each exporter: the difference to PEFT's, and to the base without the adapter."""
    torch.manual_seed(0)
    model, feeds = case.make()
    for dynamo in case.dynamo:
        export(model, feeds, folder / f"base{dynamo}.onnx", dynamo)
    inner = model.inner if isinstance(model, Answers) else model
    adapted = get_peft_model(inner, LoraConfig(r=8, lora_alpha=16, init_lora_weights=False, **case.settings))
    adapted.save_pretrained(str(folder / "adapter"))
    for module in adapted.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = {name: case.scale * scaling for name, scaling in module.scaling.items()}
    merged = adapted.merge_and_unload()
    if isinstance(model, Answers):
        model.inner = merged
    for dynamo in case.dynamo:
        export(model if isinstance(model, Answers) else merged, feeds, folder / f"peer{dynamo}.onnx", dynamo)
        base, ours = folder / f"base{dynamo}.onnx", folder / f"ours{dynamo}.onnx"
        lwc.merge(base, ours, lora=[folder / "adapter"], scale=case.scale)
        peer = answer(folder / f"peer{dynamo}.onnx", feeds)
        gaps = (np.abs(answer(path, feeds) - peer).max() / np.abs(peer).max() for path in (ours, base))
        yield dynamo, *(float(gap) for gap in gaps)


def main() -> None:
    print(f"{'adapter':36} {'exporter':>11} {'folded':>8} {'base':>8}")
    worst = 0.0
    for case in cases():
        with tempfile.TemporaryDirectory() as folder:
            for dynamo, ours, base in measure(case, Path(folder)):
                exporter = "dynamo" if dynamo else "torchscript"
                print(f"{case.label:36} {exporter:>11} {ours:8.1e} {base:8.1e}", flush=True)
                worst = max(worst, ours)
    print(f"largest difference {worst:.1e}, asked {LIMIT:g}")


if __name__ == "__main__":
    main()
