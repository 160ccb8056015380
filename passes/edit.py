"""The few edits that rewrites are made of. Scope: main graph and subgraphs; nothing here enters functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.plan import Site

Array = NDArray[Any]


class Names:
    """The value names of a model's main graph and subgraphs, so that new values clash with none."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}

    def claim(self, wanted: str) -> str:
        """`wanted`, or `wanted.1`, `wanted.2` ... whichever is free first; it is taken from then on."""
        if not self._taken:
            self._taken = _value_names(self._model)
        name = wanted
        while name in self._taken:
            self._counts[wanted] = self._counts.get(wanted, 0) + 1
            name = f"{wanted}.{self._counts[wanted]}"
        self._taken.add(name)
        return name


def _value_names(model: ir.Model) -> set[str]:
    names = {""}
    for graph in model.graphs():
        names.update(value.name or "" for value in graph.inputs)
        names.update(graph.initializers)
        for node in graph:
            names.update(value.name or "" for value in node.outputs)
    return names


def opset(model: ir.Model) -> int:
    """Version of the standard domain (0 when the model does not import it)."""
    imports = model.opset_imports
    return imports.get("", imports.get("ai.onnx", 0))


def is_op(node: ir.Node | None, *ops: str) -> bool:
    """Whether `node` is one of these operators of the standard domain."""
    return node is not None and node.domain == "" and node.op_type in ops


def site(node: ir.Node) -> Site:
    """The site that stands for this node."""
    return Site(node.name or (node.outputs[0].name if node.outputs else "") or "", node.op_type)


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """An input by position; None when it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer that no caller can override; None for everything else."""
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return value.const_value


def constant_array(value: ir.Value | None) -> Array | None:
    """The numbers of such an initializer; None for strings too."""
    tensor = constant(value)
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return None
    return tensor.numpy()


def is_float(array: Array) -> bool:
    """Whether its numbers can be weights: 16, 32 or 64 bits; not the 8-bit formats, which have a scale elsewhere."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def constant_ints(value: ir.Value | None) -> list[int] | None:
    """A constant integer vector or scalar as a list."""
    array = constant_array(value)
    if array is None or array.ndim > 1 or not np.issubdtype(array.dtype, np.integer):
        return None
    return [int(x) for x in array.reshape(-1)]


def constant_number(value: ir.Value | None) -> float | None:
    """The one number that a constant holds."""
    array = constant_array(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def ints_of(node: ir.Node, attribute: str, index: int) -> list[int] | None:
    """Integers that older opsets keep in an attribute and newer ones in a constant input; None when unknown.

    Absent in both forms: an empty list.
    """
    if attribute in node.attributes:
        found = node.attributes[attribute]
        return None if found.is_ref() else [int(x) for x in found.as_ints()]
    value = input_of(node, index)
    return [] if value is None else constant_ints(value)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape when every dimension is a known number."""
    if value is None or value.shape is None:
        return None
    dims = tuple(value.shape)
    return tuple(d for d in dims if isinstance(d, int)) if all(isinstance(d, int) for d in dims) else None


def rank(value: ir.Value | None) -> int | None:
    """Number of dimensions, when known."""
    return None if value is None or value.shape is None else len(value.shape)


def same_dims(a: ir.Shape | None, b: ir.Shape | None) -> bool:
    """Whether two shapes are known to be equal; an unnamed dimension equals nothing."""
    if a is None or b is None or len(a) != len(b):
        return False
    return all(x == y and not (isinstance(x, ir.SymbolicDim) and x.value is None) for x, y in zip(a, b, strict=True))


def sole_user(value: ir.Value) -> ir.Node | None:
    """The one node that reads this value once; None when there are more readers or it is a graph output."""
    uses = value.uses()
    return next(iter(uses)).node if len(uses) == 1 and not value.is_graph_output() else None


def add_initializer(graph: ir.Graph, name: str, array: Array | ir.TensorProtocol) -> ir.Value:
    """A new initializer of `graph`. Claim the name first."""
    tensor = ir.tensor(array, name=name) if isinstance(array, np.ndarray) else array
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def redirect(old: ir.Value, new: ir.Value) -> bool:
    """Let every reader of `old` read `new`; False, and nothing done, when a graph output forbids it.

    A graph output keeps its name, type and shape: `new` takes them over, which it can only when a node of the
    same graph makes it and it is no graph output already.
    """
    if old.is_graph_output():
        graph = old.graph
        producer = new.producer()
        if graph is None or producer is None or producer.graph is not graph or new.is_graph_output():
            return False
        new.type, new.shape = old.type or new.type, old.shape if old.shape is not None else new.shape
        name, old.name = old.name, None
        new.name = name
        for index, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[index] = new
    elif new.shape is None and old.shape is not None:
        new.shape = old.shape
    old.replace_all_uses_with(new)
    return True


def remove(nodes: ir.Node | Iterable[ir.Node]) -> None:
    """Take nodes that nobody reads out of their graph."""
    for node in [nodes] if isinstance(nodes, ir.Node) else list(nodes):
        if node.graph is not None:
            node.graph.remove(node, safe=True)
            for attribute in node.attributes.values():
                for graph in graphs_of(attribute):
                    release(graph)


def graphs_of(attribute: ir.Attr) -> Sequence[ir.Graph]:
    """The subgraphs an attribute holds."""
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else ()


def release(graph: ir.Graph) -> None:
    """Let the nodes of a graph that is thrown away read nothing any more, so that outer values lose these uses."""
    for node in graph.all_nodes():
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)


def replace_node(old: ir.Node, new: ir.Node) -> None:
    """Put `new` in the place of `old`: same position, readers, output names, name and metadata."""
    graph = old.graph
    assert graph is not None
    new.name = new.name or old.name
    new.metadata_props.update(old.metadata_props)
    graph.insert_before(old, new)
    for before, after in zip(old.outputs, new.outputs, strict=False):
        name = before.name
        after.type, after.shape = before.type, before.shape
        if not redirect(before, after):
            raise AssertionError(f"output '{name}' cannot move to another node")
        before.name, after.name = None, name
    graph.remove(old, safe=True)


def new_node(op: str, inputs: Sequence[ir.Value | None], attributes: Sequence[ir.Attr] = ()) -> ir.Node:
    """A node of the standard domain that is in no graph yet."""
    return ir.Node("", op, inputs, attributes)
