"""Where in a graph the weight of a module is: by what exporters leave of its dotted path.

    initializers        encoder.layer.0.query.weight
    names of nodes      /encoder/layer.0/query/MatMul          torch.onnx, whose weight may be onnx::MatMul_123
    scopes of nodes     pkg.torch.onnx.name_scopes             torch.onnx with dynamo

The wrapper that was exported may be a part of the one that was trained, or hold it: one path ends with the other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from lwc.passes.edit import constant, input_of, is_op

SCOPES = "pkg.torch.onnx.name_scopes"
_SLOTS = {"MatMul": 1, "Gemm": 1, "Conv": 1, "Gather": 0}
_FEWEST_AXES = 2

Path = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Place:
    """A constant weight where a node reads it.

    value: the initializer;  inputs_first: it is stored [in, out];  reader, index: who reads the initializer itself
    scopes: paths of the module that the node says;  embeds: a table that rows are taken of
    """

    node: ir.Node
    value: ir.Value
    inputs_first: bool
    reader: ir.Node
    index: int
    scopes: tuple[Path, ...]
    embeds: bool

    @property
    def paths(self) -> tuple[Path, ...]:
        """Those of the node, and that of the initializer."""
        own = path_of(self.value.name or "")
        return (*self.scopes, own[:-1]) if own[-1:] == ("weight",) else self.scopes


def places_of(model: ir.Model) -> list[Place]:
    """All places of the main graph and its subgraphs that adapters are for."""
    return [place for graph in model.graphs() for node in graph for place in _places(node)]


def _places(node: ir.Node) -> Iterator[Place]:
    index = _SLOTS.get(node.op_type)
    if index is None or not is_op(node, node.op_type) or len(node.inputs) <= index:
        return
    value, reader, turned = node.inputs[index], node, False
    while value is not None and (view := value.producer()) is not None and is_op(view, "Transpose", "Identity"):
        if view.op_type == "Transpose":
            if list(view.attributes.get_ints("perm", (1, 0))) != [1, 0]:
                return
            turned = not turned
        value, reader, index = view.inputs[0], view, 0
    tensor = constant(value)
    if value is None or tensor is None or not tensor.dtype.is_floating_point() or len(tensor.shape) < _FEWEST_AXES:
        return
    inputs_first = node.op_type in ("MatMul", "Gather")
    if node.op_type == "Gemm":
        inputs_first = not node.attributes.get_int("transB", 0)
    yield Place(
        node, value, inputs_first != turned, reader, index, tuple(_scopes(node)), embeds=node.op_type == "Gather"
    )


def bias_of(node: ir.Node) -> tuple[ir.Node, int] | None:
    """The node and the input that hold the constant bias of a layer."""
    if node.op_type in ("Gemm", "Conv"):
        return (node, 2) if constant(input_of(node, 2)) is not None else None
    for use in node.outputs[0].uses():
        if is_op(use.node, "Add") and constant(use.node.inputs[1 - use.idx]) is not None:
            return use.node, 1 - use.idx
    return None


def _scopes(node: ir.Node) -> Iterator[Path]:
    name = node.name or ""
    if name.startswith("/"):
        yield path_of(name.rpartition("/")[0].replace("/", "."))
    try:
        scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    except (ValueError, SyntaxError):
        return
    if isinstance(scopes, list) and len(scopes) > 1:
        yield path_of(str(scopes[-2]))


def path_of(name: str) -> Path:
    """A dotted name in parts."""
    return tuple(part for part in name.split(".") if part)


def likeness(wanted: Path, paths: Iterable[Path]) -> int:
    """Of how many parts the longest path is that ends with `wanted`, or that `wanted` ends with; 0: none."""
    return max((min(len(wanted), len(path)) for path in paths if path and _ends_alike(wanted, path)), default=0)


def _ends_alike(a: Path, b: Path) -> bool:
    count = min(len(a), len(b))
    return a[-count:] == b[-count:]
