"""Build one architecture and write it as ONNX:  python -m lwc.models.architectures.export NAME FILE [--dynamic]

By torch's exporter; by the older one, which traces TorchScript, where that fails.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
import transformers
from torch import nn

from lwc.models.architectures import get
from lwc.models.architectures.entry import Architecture

log = logging.getLogger(__name__)

OPSET = 18
SEED = 0


class Positional(nn.Module):
    """A model of `transformers` as a function of tensors in order, to one tensor."""

    def __init__(self, model: nn.Module, names: Sequence[str], output: str) -> None:
        super().__init__()
        self.model, self.names, self.output = model, tuple(names), output

    def forward(self, *tensors: Any) -> Any:
        result = self.model(**dict(zip(self.names, tensors, strict=True)))
        if self.output:
            return result[self.output]
        return next(value for value in result.values() if torch.is_tensor(value) and value.is_floating_point())


def build(entry: Architecture) -> nn.Module:
    """The model in evaluation mode, float32, with weights drawn by SEED."""
    torch.manual_seed(SEED)
    kind = getattr(transformers, entry.model)
    options = {name: _configuration(value) for name, value in entry.options.items()}
    model: nn.Module = kind(kind.config_class(**options)).float().eval()
    with torch.no_grad():
        disturb(model)
    return model


def _configuration(value: Any) -> Any:
    if isinstance(value, Mapping) and "model_type" in value:
        return transformers.AutoConfig.for_model(**value)
    return value


def disturb(model: nn.Module) -> None:
    """Draw what initialization leaves equal or tiny, so that every channel has a say of its own in the outputs.

    Vectors get noise of 0.1 and running variances a factor of 0.5 to 1.5; matrices with a deviation below
    1 / sqrt(inputs) are drawn with that one.
    """
    for tensor in model.parameters():
        if tensor.ndim < 2:
            tensor.add_(0.1 * torch.randn_like(tensor))
            continue
        deviation = (tensor.numel() / tensor.shape[0]) ** -0.5
        if float(tensor.std(correction=0)) < deviation:
            tensor.copy_(deviation * torch.randn_like(tensor))
    for name, tensor in model.named_buffers():
        if name.endswith("running_mean"):
            tensor.add_(0.1 * torch.randn_like(tensor))
        elif name.endswith("running_var"):
            tensor.mul_(0.5 + torch.rand_like(tensor))


def export(entry: Architecture, file: Path, dynamic: bool = False) -> None:
    """Write the architecture with static shapes; raises what torch raises when both exporters fail.

    dynamic: the first dimension of the inputs is open, as far as torch can leave it open
    """
    feeds = {name: torch.from_numpy(array) for name, array in entry.feeds().items()}
    module = Positional(build(entry), tuple(feeds), entry.output).eval()
    settings: dict[str, Any] = {"input_names": list(feeds), "output_names": ["output"], "opset_version": OPSET}
    given = tuple(feeds.values())
    try:
        shapes = tuple({0: torch.export.Dim.AUTO} for _ in given) if dynamic else None
        torch.onnx.export(
            module, given, file, dynamo=True, verbose=False, external_data=False,
            dynamic_shapes=None if shapes is None else (shapes,), **settings,
        )  # fmt: skip
    except Exception:  # whatever torch.export does not take; the older exporter says what it is if it does not either
        log.info("%s: the older exporter", entry.name, exc_info=True)
        axes = {name: {0: "batch"} for name in feeds} if dynamic else None
        torch.onnx.export(module, given, file, dynamo=False, dynamic_axes=axes, **settings)
    onnx.checker.check_model(str(file))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    export(get(sys.argv[1]), Path(sys.argv[2]), "--dynamic" in sys.argv[3:])
