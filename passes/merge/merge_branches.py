"""Make one layer of two that read the same value and whose results are added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Site
from lwc.passes.edit import Array, Names, add_initializer, is_op, opset, redirect, remove, site
from lwc.passes.fuse.linear import Linear
from lwc.passes.merge.branches import Branch, Floats, branches_of, composed, layer_behind, spread, turned
from lwc.passes.merge.kernels import identity_kernel, widened_kernel

FIRST_WITH_BROADCASTING = 7


@dataclass(frozen=True)
class MergeBranches(Pass):
    """f(x) + g(x) -> h(x) for linear f and g

        x W + s (x A) B         W' = W + s A B                              an adapter of low rank (Hu et al. 2022)
        k * x + p * x + x       k' = k + p in the middle + the identity     RepVGG (Ding et al. 2021, section 3.3)

    for MatMul, Gemm and Conv. f is one layer; g is one layer, or two of which the second is a product or a convolution
    of one pixel; behind them numbers or channels may be multiplied and added (BatchNormalization among them). Beside
    a convolution g may be x itself, scaled. A smaller kernel goes where its pixels lie in the larger one. What g adds
    stays an Add of a constant, for other passes to fold. Computed in float64, then rounded to the weight's type.
    Needs constants that no caller can override, and results that nobody else reads. Stays: what overflows the weight's
    type. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "merge-branches"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        version = opset(model)
        if version < FIRST_WITH_BROADCASTING:
            return Outcome()
        changed: list[Site] = []
        skipped: list[Skip] = []
        names = Names(model)
        for graph in model.graphs():
            for node in graph:
                pair = next(_pairs(node, version), None) if is_op(node, "Add") else None
                if pair is None:
                    continue
                weight, layer = pair.stored(), pair.kept.layers[0]
                if weight is None:
                    skipped.append(Skip(site(node), f"the weights would overflow {layer.weight.dtype}"))
                    continue
                changed += [site(layer.node), site(node)]
                _merge(node, pair, weight, names)
        return Outcome(tuple(dict.fromkeys(changed)), tuple(skipped))


@dataclass(frozen=True, eq=False)
class _Pair:
    """kept: a branch of one layer;  weight, bias: what the other one adds to its result [out, in ...], [] or [out]"""

    kept: Branch
    other: Branch
    weight: Floats
    bias: Floats

    def stored(self) -> Array | None:
        """The kept layer's new weight; None when it does not fit the type."""
        layer = self.kept.layers[0]
        alpha = layer.node.attributes.get_float("alpha", 1.0) if layer.node.op_type == "Gemm" else 1.0
        added = turned(layer, self.weight / (alpha * spread(self.kept.scale, self.weight.ndim)))
        with np.errstate(over="ignore"):
            found = np.ascontiguousarray(layer.weight.astype(np.float64) + added).astype(layer.weight.dtype)
        return found if np.isfinite(found).all() else None


def _pairs(node: ir.Node, version: int) -> Iterator[_Pair]:
    """The operands of an Add as branches of one value, either of them kept."""
    first, second = node.inputs
    for value, against in ((first, second), (second, first)):
        layer = None if value is None or value is against else layer_behind(value)
        if layer is None or value is None or against is None:
            continue
        kept = [branch for branch in branches_of(value, layer, version) if _is_kept(branch)]
        for branch in kept[:1]:
            for other in branches_of(against, layer, version):
                found = _beside(layer, other) if other.x is branch.x else None
                if found is not None:
                    yield _Pair(branch, other, *found)


def _is_kept(branch: Branch) -> bool:
    return len(branch.layers) == 1 and bool(np.all(branch.scale != 0))


def _beside(layer: Linear, other: Branch) -> tuple[Floats, Floats] | None:
    """The other branch as weight [out, in ...] and bias [] or [out] in the frame of the kept layer."""
    convolves = layer.node.op_type == "Conv"
    if not other.layers:
        kernel = identity_kernel(layer) if convolves else None
        return None if kernel is None else (kernel * spread(other.scale, kernel.ndim), other.shift)
    if any((one.node.op_type == "Conv") != convolves for one in other.layers):
        return None
    weight, bias = composed(other)
    if convolves:
        wide = widened_kernel(weight, other.layers[0], layer)
        return None if wide is None else (wide, bias)
    return (weight, bias) if weight.shape == turned(layer, layer.weight).shape else None


def _merge(node: ir.Node, pair: _Pair, weight: Array, names: Names) -> None:
    """Change the kept layer; the sum becomes its branch, or that and a constant."""
    layer, graph = pair.kept.layers[0], node.graph
    kernel = layer.node.inputs[1]
    assert graph is not None
    assert kernel is not None
    layer.node.replace_input_with(1, add_initializer(graph, names.claim(f"{kernel.name}.merged"), weight))
    place = 0 if node.inputs[0] in _results(pair.other) else 1
    value = node.inputs[1 - place]
    assert value is not None
    if np.any(pair.bias):
        axes = (1,) * (layer.weight.ndim - 2) if layer.node.op_type == "Conv" else ()
        bias = np.broadcast_to(pair.bias, (layer.channels,)).reshape(-1, *axes).astype(weight.dtype)
        node.replace_input_with(place, add_initializer(graph, names.claim(f"{kernel.name}.shift"), bias))
    else:
        moved = redirect(node.outputs[0], value)
        assert moved  # the kept branch is made in this graph, and is read here alone
        remove(node)
    remove(pair.other.nodes)


def _results(branch: Branch) -> Sequence[ir.Value]:
    """What the branch is read as: x itself where it has no nodes."""
    return branch.nodes[0].outputs if branch.nodes else (branch.x,)
