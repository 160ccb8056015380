"""LoRA adapters as PEFT saves them: adapter_model.safetensors and adapter_config.json beside it.

safetensors: 8 bytes, the length of a JSON header of names, types, shapes and offsets, then the tensors' bytes
(https://github.com/huggingface/safetensors). Names: base_model.model.<module>.lora_A.weight.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import BadInput, UsageError
from lwc.compiler.core.mapped import map_file

Tensor = NDArray[Any]

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_DTYPES = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}  # fmt: skip
_OWN_BASES = ("pissa", "olora", "corda", "loftq")  # begin from weights that are not the base's
_PART = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+?)\."
    r"(?P<part>lora_(?:embedding_)?[AB]|lora_magnitude_vector)(?:\.(?!weight|bias)\w+)?(?:\.(?P<kind>weight|bias))?"
)


@dataclass(frozen=True, eq=False)
class Adapter:
    """What one module learned: dW = scale B A, and for DoRA the length of each output's weights.

    module: dotted path of it;  down: A [rank, in ...];  up: B [out, rank];  magnitude: [out], None without DoRA
    bias: of B [out], if there is one
    """

    module: str
    down: Tensor
    up: Tensor
    scale: float
    magnitude: Tensor | None = None
    bias: Tensor | None = None
    embeds: bool = False

    @property
    def rank(self) -> int:
        return len(self.down)

    def change(self) -> Tensor:
        """dW [out, in ...] in float32 or wider."""
        dtype = np.promote_types(np.float32, self.up.dtype if self.up.dtype.kind == "f" else np.float32)
        down, up = (part.reshape(len(part), -1).astype(dtype) for part in (self.down, self.up))
        found: Tensor = (up @ down) * dtype.type(self.scale)
        return found.reshape(len(up), *self.down.shape[1:])


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """adapters: by module, in the file's order;  trained: other parameters that were saved whole, by their names"""

    path: Path
    adapters: tuple[Adapter, ...]
    trained: Mapping[str, Tensor]


def read_adapter(path: Path, scale: float = 1.0) -> AdapterFile:
    """An adapter from its file, or the folder of it. scale: what its changes are multiplied by, besides its own

    Raises UsageError where there is none, BadInput where it is of another kind.
    """
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"There is no file '{file}'.")
    config = _read_config(file.parent / CONFIG)
    parts: dict[str, dict[str, Tensor]] = {}
    trained: dict[str, Tensor] = {}
    for name, tensor in _read_tensors(file).items():
        match = _PART.fullmatch(name)
        if match is None:
            trained[name.removeprefix("base_model.model.").replace(".base_layer.", ".")] = tensor
            continue
        kind = ".bias" if match["kind"] == "bias" else ""
        parts.setdefault(match["module"], {})[match["part"] + kind] = tensor
    adapters = tuple(_adapter(file, module, found, config, scale) for module, found in parts.items())
    if not adapters:
        raise BadInput(f"'{file}' holds no LoRA adapter: no tensor of it is called lora_A.")
    return AdapterFile(file, adapters, trained)


def _adapter(file: Path, module: str, parts: Mapping[str, Tensor], config: Mapping[str, Any], scale: float) -> Adapter:
    embeds = "lora_embedding_A" in parts
    names = ("lora_embedding_A", "lora_embedding_B") if embeds else ("lora_A", "lora_B")
    missing = [name for name in names if name not in parts]
    if missing:
        raise BadInput(f"'{file}': module '{module}' has no {missing[0]}.")
    down, up = (parts[name] for name in names)
    if up.ndim < 2 or down.ndim < 2 or math.prod(up.shape[1:]) != len(down):
        raise BadInput(f"'{file}': the shapes of module '{module}' are of no product: {up.shape}, {down.shape}.")
    magnitude = parts.get("lora_magnitude_vector")
    alpha = float(_of_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", len(down))))
    own = alpha / (math.sqrt(len(down)) if config.get("use_rslora") else len(down))
    lengths = None if magnitude is None else magnitude.reshape(-1)
    return Adapter(module, down, up, own * scale, lengths, parts.get("lora_B.bias"), embeds)


def _of_pattern(patterns: Any, module: str, default: Any) -> Any:
    """The value of the first pattern that the module's path ends with, as PEFT finds it."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"There is no '{path}', which says how the adapter is scaled.") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"'{path}' cannot be read ({error}).") from error
    if not isinstance(config, dict) or config.get("peft_type", "LORA") != "LORA":
        raise BadInput(f"'{path}' is of no LoRA adapter.")
    start = str(config.get("init_lora_weights", "")).lower()
    if start.startswith(_OWN_BASES):
        raise BadInput(
            f"'{path}': the adapter was begun by '{start}', which changes the base too.",
            "Save it with path_initial_model_for_weight_conversion, as a plain LoRA.",
        )
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    data = map_file(path)
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(bytes(data[8:start]))
        header.pop("__metadata__", None)
        return {name: _tensor(path, name, entry, data[start:]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"'{path}' is no safetensors file, or a truncated one ({error}).") from error


def _tensor(path: Path, name: str, entry: Mapping[str, Any], data: memoryview) -> Tensor:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise BadInput(f"'{path}': tensor '{name}' is of type {entry['dtype']}, which is no float.")
    first, last = entry["data_offsets"]
    found: Tensor = np.frombuffer(data[first:last], np.uint8).copy().view(dtype).reshape(entry["shape"])
    return found
