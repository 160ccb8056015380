"""What one pass over the calibration data leaves behind about each layer, and its file."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.mapped import kept_in_file
from lwc.compiler.core.plan import Site

SCHEMA = 1


@dataclass(frozen=True)
class TensorStats:
    """Moments of one activation over all samples, all positions.

    count: finite values seen;  mean, variance, minimum, maximum: of these (0 when there were none)
    histogram: [bins] counts;  edges: [bins + 1] their limits, histogram[i] counts edges[i] <= v < edges[i + 1].
        All bins are one power of two wide and zero is on their grid, so histograms of parts merge exactly.
    channel_*: [channels] per channel of `axis`, channel_square is E[x^2]; None when not asked for
    zeros: values that are exactly zero;  nonfinite: NaN and infinite values, left out of all else
    """

    count: int
    minimum: float
    maximum: float
    mean: float
    variance: float
    histogram: NDArray[np.int64]
    edges: NDArray[np.float64]
    axis: int | None = None
    channel_minimum: NDArray[np.float64] | None = None
    channel_maximum: NDArray[np.float64] | None = None
    channel_mean: NDArray[np.float64] | None = None
    channel_square: NDArray[np.float64] | None = None
    zeros: int = 0
    nonfinite: int = 0


@dataclass(frozen=True)
class LayerStats:
    """Statistics of one site: of each of its inputs and outputs by position.

    None stands for a constant, an absent value, or one that holds no floats.
    gram: E[x x^T] of the first activation as the layer's weight sees it, float64, when asked for: [in, in], or
        [groups, in, in] for a convolution of several groups. None where the layer has no weight matrix, or one
        with more inputs than accumulate.GRAM_FEATURES.
    """

    inputs: tuple[TensorStats | None, ...]
    outputs: tuple[TensorStats | None, ...]
    gram: NDArray[np.float64] | None = None


_ARRAYS = ("histogram", "edges", "channel_minimum", "channel_maximum", "channel_mean", "channel_square")
_SCALARS = tuple(field.name for field in fields(TensorStats) if field.name not in _ARRAYS)


def save_stats(path: str | Path, stats: Mapping[Site, LayerStats]) -> None:
    """Write to one .npz file, aside first and renamed into place. What sites share is written once."""
    arrays: dict[str, NDArray[Any]] = {}
    tensors: dict[int, int] = {}
    grams: dict[int, int] = {}
    rows: list[dict[str, Any]] = []

    def tensor_number(tensor: TensorStats | None) -> int | None:
        if tensor is None:
            return None
        if id(tensor) not in tensors:
            number = tensors[id(tensor)] = len(rows)
            rows.append({name: getattr(tensor, name) for name in _SCALARS})
            found = ((name, getattr(tensor, name)) for name in _ARRAYS)
            arrays.update({f"{number}.{name}": array for name, array in found if array is not None})
        return tensors[id(tensor)]

    def gram_number(gram: NDArray[np.float64] | None) -> int | None:
        if gram is None:
            return None
        number = grams.setdefault(id(gram), len(grams))
        arrays[f"gram.{number}"] = gram
        return number

    sites = [
        {
            "site": asdict(site),
            "inputs": [tensor_number(tensor) for tensor in layer.inputs],
            "outputs": [tensor_number(tensor) for tensor in layer.outputs],
            "gram": gram_number(layer.gram),
        }
        for site, layer in stats.items()
    ]
    header = json.dumps({"schema": SCHEMA, "tensors": rows, "sites": sites})
    _write_aside(Path(path), arrays | {"header": np.frombuffer(header.encode(), np.uint8)})


def load_stats(path: str | Path) -> dict[Site, LayerStats]:
    """Read what `save_stats` wrote; what sites shared is shared again. Raises BadInput."""
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes())
            if header["schema"] != SCHEMA:
                raise BadInput(f"The statistics in {path} have schema {header['schema']}; this lwc reads {SCHEMA}.")
            tensors = [
                TensorStats(**row, **{name: file[f"{n}.{name}"] for name in _ARRAYS if f"{n}.{name}" in file})
                for n, row in enumerate(header["tensors"])
            ]
            numbers = sorted({entry["gram"] for entry in header["sites"]} - {None})
            grams = {number: kept_in_file(file[f"gram.{number}"]) for number in numbers}
    except BadInput:
        raise
    except Exception as error:  # zipfile, zlib, json and numpy each raise their own for a damaged file
        raise BadInput(f"The statistics in {path} cannot be read ({error}).", "Delete the file.") from error

    def chosen(row: list[int | None]) -> tuple[TensorStats | None, ...]:
        return tuple(None if number is None else tensors[number] for number in row)

    return {
        Site(**entry["site"]): LayerStats(chosen(entry["inputs"]), chosen(entry["outputs"]), grams.get(entry["gram"]))
        for entry in header["sites"]
    }


def _write_aside(path: Path, arrays: Mapping[str, Any]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with io.BufferedWriter(os.fdopen(handle, "wb", buffering=0)) as file:
            np.savez(file, **arrays)  # Gram matrices are most of it, and do not compress
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
