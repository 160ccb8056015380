"""Divide the channels that a node makes, and multiply the weights of those that read them.

    y' = (y - z) / s     linear layer    W' = W / s, b' = (b - z) / s      normalization   gamma / s, (beta - z) / s
    x  = x' s + z        its readers     W' = W s (along inputs), b' = b + W z

s > 0 and z per channel. Parameters are replaced, never written into: others may share them. Scope: main graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.passes.edit import Array, Names, add_initializer, constant_array, input_of, is_float, is_op, rank, sole_user
from lwc.passes.fuse.linear import Linear, linear_of, transformed
from lwc.passes.precision.channels import Index, Reader, rows_are_outputs
from lwc.passes.solvers.scaling import Smoothing

_LAYER_NORM_AXIS = -1


@dataclass(frozen=True, eq=False)
class Source:
    """A node whose output channels can be scaled by its own constants.

    value: what others read, behind the Add that is a MatMul's bias;  index: how the channels lie in it
    takes_shift: whether a constant can be added to each channel too
    """

    node: ir.Node
    value: ir.Value
    channels: int
    index: Index
    takes_shift: bool


def source_of(node: ir.Node) -> Source | None:
    """`node` as a linear layer or LayerNormalization of constant parameters; None for everything else."""
    if is_op(node, "LayerNormalization"):
        return _normalization(node)
    layer = linear_of(node)
    if layer is None:
        return None
    index = np.arange(layer.channels)
    if layer.axis == 1 and layer.rank > 2:
        index = index.reshape(-1, *(1,) * (layer.rank - 2))
    add = bias_add(layer)
    value = node.outputs[0] if add is None else add.outputs[0]
    return Source(node, value, layer.channels, index, layer.takes_shift or add is not None)


def _normalization(node: ir.Node) -> Source | None:
    gamma, given = constant_array(input_of(node, 1)), input_of(node, 2)
    beta = constant_array(given)
    axes, axis = rank(node.inputs[0]), node.attributes.get_int("axis", _LAYER_NORM_AXIS)
    if gamma is None or gamma.ndim != 1 or not is_float(gamma) or (given is not None and beta is None):
        return None
    if axis != _LAYER_NORM_AXIS and axis + 1 != axes:
        return None
    return Source(node, node.outputs[0], gamma.size, np.arange(gamma.size), True)


def bias_add(layer: Linear) -> ir.Node | None:
    """The Add of a constant per channel that is all that reads a MatMul: its bias."""
    result = layer.node.outputs[0]
    add = sole_user(result) if is_op(layer.node, "MatMul") else None
    if add is None or add.graph is not layer.node.graph or not is_op(add, "Add"):
        return None
    array = constant_array(add.inputs[_bias_position(add, result)])
    fits = array is not None and array.shape[-1:] == (layer.channels,) and array.size == layer.channels
    return add if fits else None


def _bias_position(add: ir.Node, product: ir.Value) -> int:
    return 1 if add.inputs[0] is product else 0


def takes_shift(reader: Reader) -> bool:
    """Whether what is added to its input's channels can be taken back by its bias."""
    layer = linear_of(reader.node)
    if layer is None or not reader.moved_only or is_op(reader.node, "ConvTranspose"):
        return False
    if is_op(reader.node, "MatMul"):
        return bias_add(layer) is not None
    # Padding puts zeros where the model has them in x, not in x'.
    pads, automatic = reader.node.attributes.get_ints("pads", ()), reader.node.attributes.get_string("auto_pad", "")
    return not any(pads) and not automatic.startswith("SAME")


@dataclass(frozen=True, eq=False)
class Edit:
    """New numbers for some inputs of a node: position -> array."""

    node: ir.Node
    arrays: dict[int, Array]
    drops_beta: bool = False

    def fits(self) -> bool:
        """Whether all numbers are finite in their type."""
        return all(bool(np.isfinite(array.astype(np.float64)).all()) for array in self.arrays.values())

    def apply(self, names: Names) -> None:
        """Give the node its new constants; old ones that nobody reads any more leave the graph."""
        graph = self.node.graph
        assert graph is not None
        for position, array in self.arrays.items():
            old = input_of(self.node, position)
            stem = old.name if old is not None else f"{self.node.outputs[0].name}.bias"
            if len(self.node.inputs) <= position:
                self.node.resize_inputs(position + 1)
            self.node.replace_input_with(position, add_initializer(graph, names.claim(f"{stem}.scaled"), array))
            if old is not None and not old.uses() and not old.is_graph_output():
                graph.initializers.pop(old.name or "", None)
        if self.drops_beta:
            self.node.attributes.pop("beta", None)


def edits_of_source(source: Source, smoothing: Smoothing) -> list[Edit]:
    """What makes the source give (y - shift) / scale."""
    scale, shift, node = smoothing.scale, smoothing.shift, source.node
    layer = linear_of(node)
    if layer is None:
        return [_normalization_edit(node, scale, shift)]
    add = bias_add(layer)
    own_shift = np.zeros(()) if add is not None else -shift / scale
    weight, bias = transformed(layer, 1 / scale, own_shift)
    edits = [Edit(node, {1: weight} | ({} if bias is None else {2: bias}), is_op(node, "Gemm") and bias is not None)]
    if add is not None:
        position = _bias_position(add, node.outputs[0])
        old = constant_array(add.inputs[position])
        assert old is not None
        edits.append(Edit(add, {position: _cast((old.astype(np.float64) - shift) / scale, old)}))
    return edits


def _normalization_edit(node: ir.Node, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Edit:
    gamma, beta = constant_array(input_of(node, 1)), constant_array(input_of(node, 2))
    assert gamma is not None
    arrays = {1: _cast(gamma.astype(np.float64) / scale, gamma)}
    if beta is not None or shift.any():
        old = np.zeros(len(gamma)) if beta is None else beta.astype(np.float64)
        arrays[2] = _cast((old - shift) / scale, gamma)
    return Edit(node, arrays)


def edits_of_reader(reader: Reader, smoothing: Smoothing) -> list[Edit]:
    """What makes the layer read (x - shift) / scale. With a shift, `takes_shift` must hold."""
    layer = linear_of(reader.node)
    assert layer is not None
    scale, shift = smoothing.scale[reader.channels], smoothing.shift[reader.channels]
    weight = layer.weight.astype(np.float64)
    arrays = {1: _cast(weight * along_inputs(layer, scale), layer.weight)}
    if not shift.any():
        return [Edit(reader.node, arrays)]
    added = _sum_per_output(layer, weight * along_inputs(layer, shift))
    add = bias_add(layer)
    if add is not None:
        position = _bias_position(add, reader.node.outputs[0])
        old = constant_array(add.inputs[position])
        assert old is not None
        return [Edit(reader.node, arrays), Edit(add, {position: _cast(old.astype(np.float64) + added, old)})]
    is_gemm = is_op(reader.node, "Gemm")
    factors = [reader.node.attributes.get_float(name, 1.0) if is_gemm else 1.0 for name in ("alpha", "beta")]
    old_bias = np.zeros(()) if layer.bias is None else layer.bias.astype(np.float64)
    bias = np.ascontiguousarray(factors[1] * old_bias + factors[0] * added)
    return [Edit(reader.node, arrays | {2: _cast(bias, layer.weight)}, is_gemm)]


def along_inputs(layer: Linear, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers per input channel [in] in a shape that multiplies the weight."""
    op, shape = layer.node.op_type, layer.weight.shape
    ones = (1,) * (len(shape) - 2)
    if op == "Conv":  # [out, in / group, ...]: the outputs of group g read the inputs of group g
        groups = layer.node.attributes.get_int("group", 1)
        rows = np.repeat(numbers.reshape(groups, -1), shape[0] // groups, axis=0)
        return rows.reshape(shape[0], -1, *ones)
    if op == "ConvTranspose":
        return numbers.reshape(-1, 1, *ones)
    return numbers.reshape(1, -1) if rows_are_outputs(layer) else numbers.reshape(-1, 1)


def _sum_per_output(layer: Linear, products: NDArray[np.float64]) -> NDArray[np.float64]:
    summed: NDArray[np.float64] = products.sum(axis=tuple(range(1, products.ndim)) if rows_are_outputs(layer) else 0)
    return summed


def _cast(array: NDArray[np.float64], like: Array) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(like.dtype)


def magnitudes(layer: Linear) -> NDArray[np.float64]:
    """The largest |weight| between each output and each input channel of a group: [groups, out / group, in / group]."""
    weight, op = np.abs(layer.weight.astype(np.float64)), layer.node.op_type
    flat = weight.reshape(*weight.shape[:2], -1).max(axis=2, initial=0.0)
    groups = layer.node.attributes.get_int("group", 1) if op in ("Conv", "ConvTranspose") else 1
    grouped = flat.reshape(groups, -1, flat.shape[1])
    return grouped if rows_are_outputs(layer) else np.ascontiguousarray(grouped.swapaxes(1, 2))


def per_channel(reader: Reader, numbers: NDArray[np.float64], channels: int) -> NDArray[np.float64]:
    """The greatest of a reader's numbers [in] for each channel of the source; 0 for channels it does not read."""
    greatest = np.zeros(channels)
    np.maximum.at(greatest, reader.channels, numbers)
    return greatest
