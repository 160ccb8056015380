"""Merging methods against mergekit's own results, on the same arrays and the same random masks.

    pip install --no-deps mergekit immutables        # beside torch, pydantic, safetensors and transformers
    python tests/benchmarks/merge_peers.py

The files in between are ONNX models: lwc merges them from disk, mergekit the tensors it is given. Differences are the
largest of a tensor over its largest value, against mergekit in float32, as it computes by itself, and in float64. Of
values whose changes are equal in size at the threshold of TIES, mergekit keeps any and lwc the first: where the two
differ for that reason alone is counted apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch
from mergekit.merge_methods import merge_tensors
from onnx import TensorProto, helper, numpy_helper

import lwc
from lwc.passes.solvers.parts import whole
from lwc.passes.solvers.task_vectors import Drop, draw_key, trim

SEED = 0
LIMIT = 1e-6
SHAPES = {"conv": (256, 128, 3, 3), "linear": (1024, 768), "table": (5000, 256), "bias": (768,), "odd": (7, 11, 13)}
WEIGHTS = (0.3, 0.9, 0.6)
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """label: what is compared;  settings: of lwc;  peer: mergekit's method;  parameters: of mergekit"""

    label: str
    settings: dict[str, Any]
    peer: str
    parameters: dict[str, Any] = field(default_factory=dict)
    models: int = 3
    base: bool = True


def cases() -> list[Case]:
    """Every method, with options away from their defaults as well."""
    weight = list(WEIGHTS)
    thin = {"weight": weight, "density": [0.2, 0.5, 0.7]}
    ours = {"weights": WEIGHTS, "density": (0.2, 0.5, 0.7)}
    return [
        Case("linear", {"weights": WEIGHTS}, "linear", {"weight": weight}, base=False),
        Case("slerp, t = 0.3", {"weights": (0.7, 0.3)}, "slerp", {"t": 0.3}, models=2, base=False),
        Case("task-arithmetic", {"weights": WEIGHTS}, "task_arithmetic", {"weight": weight}),
        Case("task-arithmetic, normalized, scale 0.7", {"weights": WEIGHTS, "normalize": True, "scale": 0.7},
             "task_arithmetic", {"weight": weight, "normalize": True, "lambda": 0.7}),
        Case("ties", ours, "ties", thin),
        Case("ties, not normalized, scale 0.5", {**ours, "normalize": False, "scale": 0.5}, "ties",
             {**thin, "normalize": False, "lambda": 0.5}),
        Case("dare", ours, "dare_linear", thin),
        Case("dare, no rescale", {**ours, "rescale": "none"}, "dare_linear", {**thin, "rescale": False}),
        Case("dare-ties", ours, "dare_ties", thin),
        Case("model-stock", {}, "model_stock"),
    ]  # fmt: skip


def draw(spread: float) -> list[Tensors]:
    """A base and three that were changed by as much as `spread` of its size; the second case is slerp's arc."""
    rng = np.random.default_rng(SEED)
    base = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return [base] + [
        {name: (array + spread * rng.standard_normal(array.shape)).astype(np.float32) for name, array in base.items()}
        for _ in range(3)
    ]


def model_of(tensors: Tensors) -> onnx.ModelProto:
    """A model that reads each tensor, in a place of its own."""
    nodes = [helper.make_node("Add", ["x", name], [f"y.{name}"], f"add.{name}") for name in tensors]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    outputs = [helper.make_tensor_value_info(f"y.{name}", TensorProto.FLOAT, t.shape) for name, t in tensors.items()]
    weights = [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()]
    graph = helper.make_graph(nodes, "tensors", ports, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def of_lwc(case: Case, tensors: Sequence[Tensors], folder: Path) -> Tensors:
    """Merged from files into a file."""
    paths = [folder / f"{k}.onnx" for k in range(len(tensors))]
    for path, one in zip(paths, tensors, strict=True):
        onnx.save(model_of(one), path)
    models, base = (paths[1:], paths[0]) if case.base else (paths[1 : 1 + case.models], None)
    method = case.label.split(",")[0]
    lwc.merge(models, folder / "out.onnx", base=base, method=method, seed=SEED, **case.settings)
    found = onnx.load(folder / "out.onnx").graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in found}


def of_mergekit(case: Case, tensors: Sequence[Tensors], dtype: torch.dtype) -> Tensors:
    """Its `merge_tensors`, its draws replaced by lwc's."""
    taken = tensors if case.base else tensors[1 : 1 + case.models]
    found = {}
    for name in tensors[0]:
        arrays = [torch.from_numpy(one[name]) for one in taken]
        with mock.patch("torch.bernoulli", _draws(name)):
            merged = merge_tensors(
                arrays, case.peer, parameters=case.parameters or None,
                base_index=0 if case.base or case.peer == "slerp" else None, dtype=dtype,
            )  # fmt: skip
        found[name] = merged.numpy()
    return found


def _draws(name: str) -> Any:
    """torch.bernoulli with the masks that lwc draws for this tensor, model after model."""
    count = iter(range(len(WEIGHTS)))

    def bernoulli(probability: torch.Tensor) -> torch.Tensor:
        drop = Drop(draw_key(SEED, name, next(count)), float(probability.reshape(-1)[0].double().numpy().round(6)))
        return torch.from_numpy(drop.mask(0, probability.numel())).reshape(probability.shape).to(probability.dtype)

    return bernoulli


def compare(case: Case, tensors: Sequence[Tensors], ours: Tensors, dtype: torch.dtype) -> tuple[float, int]:
    """The largest difference, and how many values differ by mergekit's choice among equal ones."""
    worst, choices = 0.0, 0
    for name, peer in of_mergekit(case, tensors, dtype).items():
        gap = np.abs(ours[name].astype(np.float64) - peer) / np.abs(peer).max()
        tied = _tied(case, [one[name] for one in tensors]) & (gap > LIMIT)
        choices += int(tied.sum())
        worst = max(worst, float(gap[~tied].max(initial=0.0)))
    return worst, choices


def _tied(case: Case, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Where a change is just as large as the smallest that TIES keeps."""
    found = np.zeros(arrays[0].shape, bool)
    if case.peer == "ties":
        parts = whole(arrays[1:], arrays[0])
        for k, density in enumerate(case.settings["density"]):
            found |= np.abs(arrays[1 + k] - arrays[0]) == trim(parts, k, density).threshold
    return found


def main() -> None:
    print(f"{'method':40} {'spread':>6} {'float32':>8} {'float64':>8} {'choices':>7}")
    for spread in (0.05, 1.0):
        tensors = draw(spread)
        for case in cases():
            with tempfile.TemporaryDirectory() as folder:
                ours = of_lwc(case, tensors, Path(folder))
            single, choices = compare(case, tensors, ours, torch.float32)
            double, _ = compare(case, tensors, ours, torch.float64)
            print(f"{case.label:40} {spread:6} {single:8.1e} {double:8.1e} {choices:7}", flush=True)


if __name__ == "__main__":
    main()
