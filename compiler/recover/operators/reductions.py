"""Reductions over axes, which older opsets name in an attribute and newer ones in an input; and choices of places."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lwc.compiler.recover.operators.attributes import Attributes

Operator = Callable[..., object]


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def operator(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        found = a.ints("axes") if axes is None else axes.tolist()
        if not found:
            if a.flag("noop_with_empty_axes"):
                return x
            found = list(range(x.ndim))
        return function(x, found, a.flag("keepdims", True)) if found else x

    return operator


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in axes:
        x = x.prod(axis, keepdim=True)
    return x if keep else x.reshape([n for k, n in enumerate(x.shape) if k not in {axis % x.ndim for axis in axes}])


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep).to(x.dtype)


def _arg(function: Callable[[Tensor, int, bool], Tensor]) -> Operator:
    def operator(a: Attributes, x: Tensor) -> Tensor:
        axis, keep = a.integer("axis"), a.flag("keepdims", True)
        if a.flag("select_last_index"):
            return x.shape[axis] - 1 - function(x.flip(axis), axis, keep)
        return function(x, axis, keep)

    return operator


def top_k(a: Attributes, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    axis, largest = a.integer("axis", -1), a.flag("largest", True)
    order = torch.sort(x, dim=axis, descending=largest, stable=True)
    count = int(k)
    return order.values.narrow(axis, 0, count), order.indices.narrow(axis, 0, count)


def cumulative_sum(a: Attributes, x: Tensor, axis: Tensor) -> Tensor:
    at = int(axis)
    x = x.flip(at) if a.flag("reverse") else x
    y = x.cumsum(at).to(x.dtype) - (x if a.flag("exclusive") else 0)
    return y.flip(at) if a.flag("reverse") else y


OPERATORS: Mapping[str, Operator] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "CumSum": cumulative_sum,
    "ReduceL1": _reduction(lambda x, axes, keep: _sum(x.abs(), axes, keep)),
    "ReduceL2": _reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep)),
    "ReduceLogSum": _reduction(lambda x, axes, keep: torch.log(_sum(x, axes, keep))),
    "ReduceLogSumExp": _reduction(lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep)),
    "ReduceMax": _reduction(lambda x, axes, keep: torch.amax(x, axes, keepdim=keep)),
    "ReduceMean": _reduction(lambda x, axes, keep: torch.mean(x, axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda x, axes, keep: torch.amin(x, axes, keepdim=keep)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(_sum),
    "ReduceSumSquare": _reduction(lambda x, axes, keep: _sum(x.square(), axes, keep)),
    "TopK": top_k,
}
