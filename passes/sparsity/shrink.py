"""Slice the constants of a model, and rewrite the sizes that are written in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.channels import Number, Shrunk
from lwc.compiler.analysis.terms import Mask
from lwc.passes.edit import Array, Names, add_initializer, constant_array, input_of, is_op, new_node
from lwc.passes.sparsity.layer import drop_unread

Masks = Mapping[int, Mask]


def shrink(model: ir.Model, shrunk: Shrunk, names: Names) -> None:
    """Make the model what it is without the channels, shapes of values too."""
    for node in list(model.graph):
        read = input_of(node, 0)
        if is_op(node, "Shape") and read is not None and read in shrunk.values:
            _say_old_sizes(node, shrunk.values[read], names)
    for (node, where), numbers in shrunk.sizes.items():
        if isinstance(where, str):
            _set_attribute(node, where, numbers)
        else:
            _set_vector(node, where, numbers, names)
    for (node, attribute), number in shrunk.defaults.items():
        node.attributes[attribute] = ir.AttrFloat32(attribute, number)
    _slice_constants(shrunk, names)
    for (node, index), mask in shrunk.numbered.items():
        _renumber(node, index, mask, names)
    for value, masks in shrunk.values.items():
        if value.shape is not None and not value.is_initializer():
            value.shape = smaller(value.shape, masks)


def smaller(shape: ir.Shape, masks: Masks) -> ir.Shape:
    """What stays of a shape, by axis."""
    return ir.Shape([int(masks[k].sum()) if k in masks else dim for k, dim in enumerate(shape)])


def sliced(array: Array, masks: Masks) -> Array:
    """What stays of an array, by axis."""
    for axis, mask in masks.items():
        array = np.compress(mask, array, axis)
    return np.ascontiguousarray(array)


def replace_tensor(value: ir.Value, array: Array) -> None:
    """Give an initializer another tensor; the old one is left as it is, for forks that share it."""
    assert value.const_value is not None
    value.const_value = ir.tensor(array, dtype=value.const_value.dtype, name=value.name)
    value.shape = ir.Shape(array.shape)


def _slice_constants(shrunk: Shrunk, names: Names) -> None:
    """Readers that see the same of a constant share what is left of it."""
    reads: dict[ir.Value, dict[bytes, list[tuple[ir.Node, int]]]] = {}
    for (node, index), masks in shrunk.constants.items():
        value = node.inputs[index]
        assert value is not None
        key = b"|".join(bytes([axis]) + mask.tobytes() for axis, mask in masks.items())
        reads.setdefault(value, {}).setdefault(key, []).append((node, index))
    for value, views in reads.items():
        array = constant_array(value)
        assert array is not None
        whole = len(views) == 1 and not value.is_graph_output()
        for readers in views.values():
            left = sliced(array, shrunk.constants[readers[0]])
            if whole and {(use.node, use.idx) for use in value.uses()} == set(readers):
                replace_tensor(value, left)
                continue
            own = _new_constant(value, left, readers[0][0], names)
            for node, index in readers:
                node.replace_input_with(index, own)
        drop_unread(value)


def _renumber(node: ir.Node, index: int, mask: Mask, names: Names) -> None:
    """Positions on an axis become those on what stays of it."""
    value = node.inputs[index]
    array = constant_array(value)
    assert value is not None
    assert array is not None
    numbers = np.where(array < 0, array + len(mask), array)
    left = (np.cumsum(mask) - 1)[numbers].astype(array.dtype)
    node.replace_input_with(index, _new_constant(value, left, node, names))
    drop_unread(value)


def _new_constant(like: ir.Value, array: Array, reader: ir.Node, names: Names) -> ir.Value:
    graph = like.graph or reader.graph
    assert graph is not None
    assert like.const_value is not None
    name = names.claim(f"{like.name}.pruned")
    return add_initializer(graph, name, ir.tensor(array, dtype=like.const_value.dtype, name=name))


def _set_attribute(node: ir.Node, name: str, numbers: Sequence[Number]) -> None:
    old = node.attributes.get(name)
    if numbers[0].element is None:
        node.attributes[name] = ir.AttrInt64(name, numbers[0].size)
    elif old is not None:
        sizes = [int(x) for x in old.as_ints()]
        for number in numbers:
            sizes[number.element or 0] = number.size
        node.attributes[name] = ir.AttrInt64s(name, sizes)


def _set_vector(node: ir.Node, index: int, numbers: Sequence[Number], names: Names) -> None:
    """An input that holds sizes: a constant is replaced, a value of run time overwritten, an absent one made."""
    value, length = input_of(node, index), numbers[0].length
    places = [number.element or 0 for number in numbers]
    sizes = np.zeros(length, np.int64)
    sizes[places] = [number.size for number in numbers]
    graph = node.graph
    assert graph is not None
    known = constant_array(value)
    if value is None or known is not None:
        if known is not None:
            others = np.setdiff1d(np.arange(length), places)
            sizes[others] = known[others]
        dtype = np.dtype(np.int64) if known is None else known.dtype
        name = names.claim(f"{node.outputs[0].name}.sizes")
        given = add_initializer(graph, name, sizes.astype(dtype))
        if "num_outputs" in node.attributes:
            del node.attributes["num_outputs"]
    else:
        put = _overwritten(value, sizes, places, graph, names)
        graph.insert_before(node, put)
        given = put.outputs[0]
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, given)
    drop_unread(value)


def _overwritten(value: ir.Value, sizes: Array, places: Sequence[int], graph: ir.Graph, names: Names) -> ir.Node:
    """A node that takes a vector of sizes computed at run time and puts these in their places."""
    mask = np.zeros(len(sizes), np.bool_)
    mask[list(places)] = True
    name = names.claim(f"{value.name}.pruned")
    dtype = (value.dtype or ir.DataType.INT64).numpy()
    chosen = add_initializer(graph, names.claim(f"{name}.places"), mask)
    wanted = add_initializer(graph, names.claim(f"{name}.sizes"), sizes.astype(dtype))
    node = new_node("Where", [chosen, wanted, value])
    node.name = node.outputs[0].name = name
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    return node


def _say_old_sizes(node: ir.Node, masks: Masks, names: Names) -> None:
    """Let the readers of a Shape see what it said before."""
    value, output, graph = node.inputs[0], node.outputs[0], node.graph
    assert value is not None
    assert value.shape is not None
    assert graph is not None
    rank = len(value.shape)
    axes = range(rank)[node.attributes.get_int("start", 0) : node.attributes.get_int("end", rank)]
    places = [k for k, axis in enumerate(axes) if axis in masks]
    if places:
        sizes = np.zeros(len(axes), np.int64)
        sizes[places] = [len(masks[axes[k]]) for k in places]
        readers = list(output.uses())
        told = _overwritten(output, sizes, places, graph, names)
        graph.insert_after(node, told)
        for use in readers:
            use.node.replace_input_with(use.idx, told.outputs[0])
