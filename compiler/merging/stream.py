"""A merged model whose parameters are made when they are asked for: memory holds one tensor at a time.

Tensors of the models are mapped from their files; stretches of them are copied out, and pages are given back every
64 MB. Writing the merged model asks for each parameter once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.errors import BadInput, UsageError
from lwc.compiler.core.inline import write_inline
from lwc.compiler.core.mapped import release_pages
from lwc.compiler.core.model import Model
from lwc.compiler.core.skeleton import initialized, standing_in
from lwc.compiler.core.storage import EXTERNAL_BYTES, INLINE_BYTES, RELEASED_BYTES, write_model, written_aside
from lwc.compiler.merging.align import Aligned, Group
from lwc.passes.solvers.parts import Array, Parts, gathered
from lwc.passes.sparsity.shrink import replace_tensor

MergeGroup = Callable[[Group, Parts], Iterator[Array]]


@dataclass
class _Pages:
    """Counts what is read of mapped files, and gives pages back."""

    held: int = 0

    def read(self, count: int) -> None:
        self.held += count
        if self.held >= RELEASED_BYTES:
            release_pages()
            self.held = 0


def streamed(aligned: Aligned, merge: MergeGroup, *, base: bool, on_merged: Callable[[Group], None]) -> Model:
    """The first model with every group merged when its tensor is asked for; each asking merges anew.

    base: the first model is the base of the others;  on_merged: told of each group that was merged
    """
    pages = _Pages()
    merged = aligned.models[0].fork()
    place = {value: k for k, (value, _) in enumerate(initialized(aligned.models[0].ir))}
    values = [value for value, _ in initialized(merged.ir)]
    for group in aligned.groups:
        values[place[group.value]].const_value = _lazy(group, merge, base, pages, on_merged)
    return merged


def _lazy(
    group: Group, merge: MergeGroup, base: bool, pages: _Pages, on_merged: Callable[[Group], None]
) -> ir.LazyTensor:
    first = group.tensors[0]

    def make() -> ir.TensorProtocol:
        found = _merged(group, merge, base, pages)
        on_merged(group)
        return ir.Tensor(found, first.dtype, shape=ir.Shape(group.shape), name=group.name)

    return ir.LazyTensor(
        make, first.dtype, shape=ir.Shape(group.shape), name=group.name, doc_string=first.doc_string,
        metadata_props=dict(first.metadata_props),
    )  # fmt: skip


def _merged(group: Group, merge: MergeGroup, base: bool, pages: _Pages) -> NDArray[Any]:
    arrays = tuple(tensor.numpy() for tensor in group.tensors)
    if _equal(arrays):
        return arrays[0]
    parts = Parts(arrays[1:], arrays[0], read=pages.read) if base else Parts(arrays, read=pages.read)
    with np.errstate(over="ignore", invalid="ignore"):
        found = gathered(parts, merge(group, parts), arrays[0].dtype)
    _check_finite(group, found)
    return found


def _equal(arrays: Sequence[NDArray[Any]]) -> bool:
    """Whether all are the same, bit by bit: constants, and what no training touched."""
    first, *others = (array.reshape(-1) for array in arrays)
    if any(other.dtype != first.dtype for other in others):
        return False
    step = 1 << 16
    return all(
        bool(np.array_equal(first[k : k + step].view(np.uint8), other[k : k + step].view(np.uint8)))
        for k in range(0, first.size, step)
        for other in others
    )


def _check_finite(group: Group, found: NDArray[Any]) -> None:
    flat = found.reshape(-1)
    for k in range(0, flat.size, 1 << 17):
        if not np.isfinite(flat[k : k + (1 << 17)]).all():
            raise BadInput(
                f"Merging '{group.name}' gives NaN or infinities in {found.dtype}: a model holds some, or the weights "
                "and --scale are too large."
            )


def in_memory(model: Model) -> Model:
    """The model with all its tensors made once, for methods that run it many times."""
    for value, tensor in initialized(model.ir):
        if isinstance(tensor, ir.LazyTensor):
            value.const_value = ir.Tensor(tensor.numpy(), tensor.dtype, shape=tensor.shape, name=tensor.name)
    return model


def put(value: ir.Value | None, array: NDArray[Any]) -> None:
    """Give an initializer other numbers, in the shape and the type it has."""
    assert value is not None
    old = value.const_value
    assert old is not None
    replace_tensor(value, np.ascontiguousarray(array.reshape(old.shape.numpy()), old.dtype.numpy()))


def write_merged(model: Model, path: Path, *, external: bool) -> None:
    """Write a model tensor by tensor, aside first and renamed into place.

    external: weights go to `<path>.data`, as they do when the file would pass 2 GB. Raises UsageError.
    """
    lazy = dict(_lazy_tensors(model.ir))
    small = {value: tensor.raw() for value, tensor in lazy.items() if tensor.nbytes < EXTERNAL_BYTES}
    large = {value: tensor for value, tensor in lazy.items() if value not in small}
    with standing_in(small), _made_ahead(large):  # small: an error in the graph's own message would not be ours
        if external or path.is_dir() or model.weight_bytes() > INLINE_BYTES:
            write_model(model.ir, path, external_data=external)
            return
        try:
            with written_aside(path) as file:
                write_inline(model.ir, file)
        except OSError as error:
            raise UsageError(f"'{path}' cannot be written ({error.strerror or error}).") from error


@contextmanager
def _made_ahead(tensors: Mapping[ir.Value, ir.LazyTensor]) -> Iterator[None]:
    """While the block runs, each of these tensors is made while the one before it is written."""
    order, begun = list(tensors.values()), dict[int, Future[ir.TensorProtocol]]()

    def make(k: int) -> ir.TensorProtocol:
        future = begun.pop(k, None)
        found = order[k].raw() if future is None else future.result()
        if not begun and k + 1 < len(order):
            begun[k + 1] = pool.submit(order[k + 1].raw)
        return found

    with ThreadPoolExecutor(1, "ahead") as pool:
        stubs = {value: _like(tensor, partial(make, k)) for k, (value, tensor) in enumerate(tensors.items())}
        with standing_in(stubs):
            yield


def _like(tensor: ir.TensorProtocol, make: Callable[[], ir.TensorProtocol]) -> ir.LazyTensor:
    return ir.LazyTensor(
        make, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name, doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )  # fmt: skip


def _lazy_tensors(model: ir.Model) -> Iterator[tuple[ir.Value, ir.LazyTensor]]:
    return ((value, tensor) for value, tensor in initialized(model) if isinstance(tensor, ir.LazyTensor))

