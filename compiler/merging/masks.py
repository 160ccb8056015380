"""Masks that models share stay: what is zero in all of them is zero in the merged one (sparse soups, Zimmer 2024).

Averages of zeros are zeros; sums on top of a dense base and least squares are not. A weight is sparse where a tenth of
it is exactly zero. Where models are sparse in other places each, fewer zeros are left, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.model import Model
from lwc.compiler.core.skeleton import initialized
from lwc.compiler.merging.align import Aligned, Group
from lwc.compiler.merging.methods import KEEP
from lwc.compiler.merging.recipe import Recipe
from lwc.compiler.merging.roles import Role

SPARSE = 0.1  # share of zeros of a sparse weight
SHARED = 0.99  # share of a model's zeros that all have, of one mask: some weights are zero by themselves
STRETCH = 1 << 17  # values that are looked at first: a weight with few zeros among them is dense


def keep_masks(model: Model, aligned: Aligned, recipe: Recipe, based: bool) -> list[str]:
    """Let the merged model have the masks that all models share; returns what is to be said of masks.

    model: changed in place;  based: the first of `aligned` is the base, whose zeros do not count
    """
    values = {value.name: value for value, _ in initialized(model.ir)}
    shared, differ = 0, []
    for group in aligned.groups:
        tensors = group.tensors[1:] if based else group.tensors
        if not _is_sparse(group, tensors) or recipe.of(group.name).method == KEEP:
            continue
        value = values.get(group.name)
        if not _is_shared(tensors):
            differ.append(group.name)
        elif value is not None and value.const_value is not None:
            value.const_value = _masked(value.const_value, tensors)
            shared += 1
    return list(_notes(shared, differ))


def zeros(tensor: ir.TensorProtocol) -> NDArray[np.bool_]:
    """Where a tensor is exactly zero."""
    found: NDArray[np.bool_] = tensor.numpy() == 0
    return found


def is_sparse(array: NDArray[Any]) -> bool:
    """Whether so many of its values are zero that it must have been pruned."""
    return bool(np.count_nonzero(array) <= (1.0 - SPARSE) * array.size)


def _is_sparse(group: Group, tensors: Sequence[ir.TensorProtocol]) -> bool:
    if group.role is not Role.WEIGHT or len(group.shape) < 2:
        return False
    arrays = (tensor.numpy() for tensor in tensors)
    return all(is_sparse(array.reshape(-1)[:STRETCH]) and is_sparse(array) for array in arrays)


def _is_shared(tensors: Sequence[ir.TensorProtocol]) -> bool:
    common = _common(tensors)
    most = max(int(zeros(tensor).sum()) for tensor in tensors)
    return bool(common.sum() >= SHARED * most)


def _common(tensors: Sequence[ir.TensorProtocol]) -> NDArray[np.bool_]:
    """Where all are zero."""
    found = zeros(tensors[0])
    for tensor in tensors[1:]:
        found &= zeros(tensor)
    return found


def _masked(merged: ir.TensorProtocol, tensors: Sequence[ir.TensorProtocol]) -> ir.LazyTensor:
    def make() -> ir.TensorProtocol:
        array = merged.numpy()
        kept = np.where(_common(tensors), array.dtype.type(0), array)
        return ir.Tensor(kept, merged.dtype, shape=ir.Shape(kept.shape), name=merged.name)

    return ir.LazyTensor(make, merged.dtype, shape=ir.Shape(merged.shape.numpy()), name=merged.name)


def _notes(shared: int, differ: Sequence[str]) -> Iterator[str]:
    if shared:
        yield f"{shared} weights are sparse with one mask in all models, and keep it."
    if differ:
        names = ", ".join(f"'{name}'" for name in differ[:3])
        yield f"{len(differ)} weights are sparse with other masks in each model, and become denser: {names}."
