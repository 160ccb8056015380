"""How an opset adapter adds constants and nodes, and takes values out of attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.skeleton import roots

_CONSTANT_KEYS = {
    ir.AttributeType.INT: "value_int",
    ir.AttributeType.INTS: "value_ints",
    ir.AttributeType.FLOAT: "value_float",
    ir.AttributeType.FLOATS: "value_floats",
}


def taken_names(model: ir.Model) -> set[str]:
    """Names of all values and nodes, wherever they are."""
    names: set[str] = set()
    for root in roots(model):
        for graph in (root, *root.subgraphs()):
            names |= {value.name or "" for value in graph.inputs}
            if isinstance(graph, ir.Graph):
                names |= set(graph.initializers)
        for node in root.all_nodes():
            names |= {node.name or "", *(value.name or "" for value in node.outputs)}
    return names


class Refusal(Exception):
    """The node has no equal at the next opset; the message says why."""


@dataclass(frozen=True)
class Edit:
    """Edits one root under names that nothing else in the model has. target: the opset being raised to."""

    target: int
    names: set[str]
    in_function: bool

    def claim(self, wanted: str) -> str:
        """`wanted`, numbered if it is taken."""
        name, k = wanted, 0
        while name in self.names:
            k += 1
            name = f"{wanted}.{k}"
        self.names.add(name)
        return name

    def constant(self, node: ir.Node, suffix: str, array: NDArray[Any]) -> ir.Value:
        """An initializer of the node's graph; in functions, which have none, a Constant node."""
        if self.in_function or node.graph is None:
            return self.insert(node, "Constant", (), (ir.AttrTensor("value", ir.Tensor(array)),), suffix)
        name = self.claim(f"{_label(node)}.{suffix}")
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        node.graph.register_initializer(value)
        return value

    def insert(
        self,
        node: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Sequence[ir.Attr],
        suffix: str,
    ) -> ir.Value:
        """The output of a new node right before `node`."""
        name = self.claim(f"{_label(node)}.{suffix}")
        output = ir.Value(name=self.claim(f"{name}.out"))
        node.prepend(ir.Node("", op_type, inputs, attributes, outputs=[output], name=name))
        return output

    def take(self, node: ir.Node, attribute: str, dtype: Any, *, as_list: bool = False) -> ir.Value | None:
        """Turn an attribute into a value of this dtype, a 1-D one if `as_list`; None when it is absent.

        In a function the attribute may refer to one of the function's own, and then so does the constant.
        """
        found = node.attributes.pop(attribute, None)
        if found is None:
            return None
        reference = found.ref_attr_name
        if not reference:
            array = np.asarray(found.value, dtype)
            return self.constant(node, attribute, array.reshape(-1) if as_list else array)
        key = _CONSTANT_KEYS[found.type]
        made = self.insert(node, "Constant", (), (ir.RefAttr(key, reference, found.type),), attribute)
        if not as_list or found.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS):
            return made
        shape = self.constant(node, f"{attribute}.shape", np.array([1], np.int64))
        return self.insert(node, "Reshape", (made, shape), (), f"{attribute}.list")


def set_inputs(node: ir.Node, *inputs: ir.Value | None) -> None:
    """Make these the node's inputs, absent ones at the end left out."""
    kept = list(inputs)
    while kept and kept[-1] is None:
        kept.pop()
    node.resize_inputs(len(kept))
    for k, value in enumerate(kept):
        node.replace_input_with(k, value)


def refuse_reference(node: ir.Node, attribute: str) -> None:
    """Refuse an attribute whose value is known only where the function is called."""
    found = node.attributes.get(attribute)
    if found is not None and found.is_ref():
        raise Refusal(f"its '{attribute}' is an attribute of the function around it")


def _label(node: ir.Node) -> str:
    return node.name or (node.outputs[0].name if node.outputs else None) or node.op_type
