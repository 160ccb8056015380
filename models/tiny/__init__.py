"""Tiny graphs of every operator family, for tests: `all_graphs()` builds them, `feeds()` fills their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.models.tiny import (
    activations,
    control,
    convolutions,
    formats,
    layout,
    linear,
    recurrent,
    redundant,
    transformers,
)
from lwc.models.tiny.text import Builder

# Sizes of dynamic axes by name; any other axis gets `_OTHER_SIZE`.
_SIZES = MappingProxyType({"N": 2, "T": 5, "H": 10, "W": 12})
_OTHER_SIZE = 2

# Graphs that ONNX Runtime refuses, with the reason.
NOT_RUNNABLE: Mapping[str, str] = MappingProxyType(
    {
        "bfloat16": "no bfloat16 MatMul on the CPU",
        "newest_opset": "knows opset 26 at most (1.31)",
        "unknown_domain": "no such operator",
    }
)


def all_graphs() -> Mapping[str, Builder]:
    """Name -> builder. Every call of a builder gives a fresh model with the same weights."""
    modules = (
        convolutions, linear, layout, activations, transformers, recurrent, control, redundant, formats,
    )  # fmt: skip
    return MappingProxyType({name: build for module in modules for name, build in module.GRAPHS.items()})


def feeds(model: ir.Model, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Random values for every input that is not a weight; the same for the same seed.

    Floating point inputs are normal, integers 1 to 3 (fit as indices, lengths and counts), uint8 spans its
    range. Dynamic axes called N, T, H and W get 2, 5, 10 and 12 entries, all others 2.
    """
    rng = np.random.default_rng(seed)
    return {
        value.name: _random(value, rng)
        for value in model.graph.inputs
        if value.name is not None and value.name not in model.graph.initializers
    }


def _random(value: ir.Value, rng: np.random.Generator) -> NDArray[np.generic]:
    if value.dtype is None or value.shape is None:
        raise ValueError(f"Input {value.name!r} has no type or no shape.")
    shape = [dim if isinstance(dim, int) else _SIZES.get(str(dim.value), _OTHER_SIZE) for dim in value.shape]
    if value.dtype.is_floating_point():
        return np.asarray(rng.standard_normal(shape)).astype(value.dtype.numpy())
    if value.dtype == ir.DataType.BOOL:
        return np.asarray(rng.integers(0, 2, shape)).astype(np.bool_)
    low, high = (0, 256) if value.dtype == ir.DataType.UINT8 else (1, 4)
    return np.asarray(rng.integers(low, high, shape)).astype(value.dtype.numpy())
