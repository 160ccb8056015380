"""Fold scales into the layers behind them, or into one before them that views lie between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Site
from lwc.passes.edit import (
    Array,
    Names,
    add_initializer,
    constant,
    constant_array,
    is_op,
    opset,
    rank,
    redirect,
    remove,
    site,
    sole_user,
)
from lwc.passes.fuse.affine import affine_of
from lwc.passes.fuse.linear import Linear
from lwc.passes.merge.branches import Floats, plain_layer, turned

VIEWS = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Identity")
LINEAR_POOLS = ("AveragePool", "GlobalAveragePool")
POOLS = (*LINEAR_POOLS, "MaxPool", "GlobalMaxPool")
KEEP_SIGNS = ("Relu", "LeakyRelu")  # f(s x) = s f(x) for s > 0, as for the maximum
_MOST_STEPS = 16


@dataclass(frozen=True)
class FoldScales(Pass):
    """f(s x) -> f'(x)         W' = W s, per channel of the input

    for Conv, Gemm and MatMul, all that read the scaled value, also through what commutes with the scale: pooling, Relu
    and its like (s > 0), for one number views too. One number behind views of a layer goes into that layer.
    Computed in float64, then rounded to the weight's type. Stays: a scale of what two values make (runtimes fuse
    normalizations and activations with it), a weight that others read too, what overflows.
    Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "fold-scales"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        skipped: list[Skip] = []
        names, version = Names(model), opset(model)
        for graph in model.graphs():
            for node in graph:
                if not is_op(node, "Mul", "Div") or _is_of_two(node):
                    continue
                found = _ahead(node, version) or _behind(node, version)
                if found is None:
                    continue
                weights = [scaled.numbers() for scaled in found]
                if not all(np.isfinite(weight).all() for weight in weights):
                    skipped.append(Skip(site(node), "the weights would overflow"))
                    continue
                changed += [site(node), *(site(scaled.reader) for scaled in found)]
                for scaled, weight in zip(found, weights, strict=True):
                    scaled.put(weight, names)
                _drop(node)
        return Outcome(tuple(dict.fromkeys(changed)), tuple(skipped))


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A constant that takes the scale. factor: broadcasts to it"""

    reader: ir.Node
    index: int
    factor: Floats

    @property
    def value(self) -> ir.Value:
        found = self.reader.inputs[self.index]
        assert found is not None
        return found

    def numbers(self) -> Array:
        array = constant_array(self.value)
        assert array is not None
        with np.errstate(over="ignore"):
            return np.ascontiguousarray((array.astype(np.float64) * self.factor).astype(array.dtype))

    def put(self, array: Array, names: Names) -> None:
        graph = self.reader.graph
        assert isinstance(graph, ir.Graph)
        self.reader.replace_input_with(
            self.index, add_initializer(graph, names.claim(f"{self.value.name}.scaled"), array)
        )


def _is_of_two(node: ir.Node) -> bool:
    """Whether the node scales what a Mul or Div of two computed values makes, or no computed value alone."""
    values = [value for value in node.inputs if value is not None and constant(value) is None]
    maker = values[0].producer() if len(values) == 1 else None
    if len(values) != 1 or maker is None:
        return len(values) != 1
    computed = [value for value in maker.inputs if value is not None and constant(value) is None]
    return is_op(maker, "Mul", "Div") and len(computed) > 1


def _ahead(node: ir.Node, version: int) -> list[_Scaled] | None:
    """The weights of all layers that the scaled value reaches; None when it reaches anything else."""
    found: list[_Scaled] = []
    waiting = [node.outputs[0]]
    for _ in range(_MOST_STEPS):
        if not waiting:
            return found or None
        value = waiting.pop()
        if value.is_graph_output() or not value.uses():
            return None
        for user, index in value.uses():
            scaled = _into(user, node, version) if index == 0 else None
            if scaled is not None:
                found.append(scaled)
            elif index == 0 and user.graph is node.graph and _commutes(user, node, version):
                waiting.append(user.outputs[0])
            else:
                return None
    return None


def _into(user: ir.Node, node: ir.Node, version: int) -> _Scaled | None:
    """The weight of a layer that reads the scaled value, if nobody else reads it."""
    layer = plain_layer(user)
    weight = user.inputs[1] if layer is not None else None
    if layer is None or weight is None or user.graph is not node.graph or sole_user(weight) is None:
        return None
    scale = _scale(node, version, layer)
    if scale is None or (scale.ndim and layer.node.attributes.get_int("group", 1) != 1):
        return None
    factor = scale.reshape(1, -1, *(1,) * (layer.weight.ndim - 2)) if scale.ndim else scale
    return _Scaled(user, 1, turned(layer, factor) if scale.ndim else factor)


def _scale(node: ir.Node, version: int, layer: Linear) -> Floats | None:
    """The scale per channel of the layer's input, [] or [channels]."""
    inputs = turned(layer, layer.weight).shape[1]
    if layer.node.op_type == "Conv":
        found = affine_of(node, version, inputs, layer.rank, 1)
    else:
        found = affine_of(node, version, inputs, 1, -1)
    return None if found is None or found.shifts else found.scale


def _number(node: ir.Node, version: int) -> float | None:
    """The number that a node multiplies by, if it is one."""
    dims = rank(node.outputs[0])
    found = affine_of(node, version, 1, dims, -1) if dims else None
    return float(found.scale) if found is not None and not found.shifts else None


def _commutes(user: ir.Node, node: ir.Node, version: int) -> bool:
    """Whether scaling behind this operator is scaling before it."""
    number = _number(node, version)
    if is_op(user, *VIEWS):
        return number is not None
    scales = [array for value in node.inputs if (array := constant_array(value)) is not None]
    if is_op(user, *POOLS) and number is None:
        dims = rank(node.outputs[0])
        if not dims or affine_of(node, version, scales[0].size, dims, 1) is None:
            return False  # pools move what lies along other axes
    positive = bool((scales[0] > 0).all())
    return len(user.outputs) == 1 and is_op(user, *(LINEAR_POOLS if not positive else (*POOLS, *KEEP_SIGNS)))


def _behind(node: ir.Node, version: int) -> list[_Scaled] | None:
    """Weight and constants of the layer that the value is a view of; None when there is none."""
    number = _number(node, version)
    values = [value for value in node.inputs if value is not None and constant(value) is None]
    found: list[_Scaled] = []
    value = values[0]
    while number is not None and sole_user(value) is not None:
        maker = value.producer()
        if maker is None or maker.graph is not node.graph:
            return None
        factor = np.asarray(number)
        layer = plain_layer(maker)
        if layer is not None and sole_user(layer.node.inputs[1] or value) is None:
            return None
        if layer is not None:
            slots = [1, *([2] if layer.bias is not None else [])]
            return [*found, *(_Scaled(maker, slot, factor) for slot in slots)]
        inputs = [v for v in maker.inputs if v is not None and constant(v) is None]
        if is_op(maker, "Add") and len(inputs) == 1:
            found.append(_Scaled(maker, 1 - list(maker.inputs).index(inputs[0]), factor))
        elif not is_op(maker, *VIEWS) or inputs[:1] != list(maker.inputs[:1]):
            return None
        value = inputs[0]
    return None


def _drop(node: ir.Node) -> None:
    """Let readers of the scaled value read what was scaled."""
    values = [value for value in node.inputs if value is not None and constant(value) is None]
    if redirect(node.outputs[0], values[0]):
        remove(node)
