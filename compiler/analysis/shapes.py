"""Types and shapes of values: inferred, and fixed where the user says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.inference import infer_shapes

__all__ = ["fix_dimensions", "forget_inner_shapes", "infer_shapes"]


def forget_inner_shapes(model: ir.Model) -> None:
    """Drop the shapes of the main graph's values between its inputs and outputs.

    ONNX Runtime (1.31) infers them itself; told them, it fuses SkipLayerNormalization, which made BERT-like encoders
    1.05 to 1.2 times slower.
    """
    outputs = set(model.graph.outputs)
    for node in model.graph:
        for value in node.outputs:
            if value not in outputs:
                value.shape = None
                value.type = None


def fix_dimensions(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give inputs these static shapes, their symbols replaced everywhere, and infer the rest anew.

    Raises UsageError for an unknown input, another rank, or a size that contradicts the model or another input.
    """
    inputs = {value.name: value for value in model.graph.inputs if value.name not in model.graph.initializers}
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            known = ", ".join(str(known) for known in inputs)
            raise UsageError(f"The model has no input '{name}'.", f"Its inputs: {known}.")
        _bind(name, inputs[name].shape, shape, sizes)
    for name, shape in shapes.items():
        inputs[name].shape = ir.Shape(shape)
    for graph in model.graphs():
        for value in _values(graph):
            if value.shape is not None and any(_symbol(dim) in sizes for dim in value.shape):
                value.shape = ir.Shape(sizes.get(_symbol(dim) or "", dim) for dim in value.shape)
    infer_shapes(model)


def _bind(name: str, declared: ir.Shape | None, wanted: Sequence[int], sizes: dict[str, int]) -> None:
    """Record what size each symbol of `declared` gets."""
    if declared is None:
        return
    if len(declared) != len(wanted):
        raise UsageError(f"Input '{name}' has {len(declared)} dimensions, {declared}; {list(wanted)} has not.")
    for dim, size in zip(declared, wanted, strict=True):
        symbol = _symbol(dim)
        known = dim if isinstance(dim, int) else sizes.setdefault(symbol, size) if symbol else size
        if known != size:
            what = f"'{symbol}', which another one makes {known}" if symbol else f"fixed to {known}"
            raise UsageError(f"Input '{name}' of shape {declared} cannot be {list(wanted)}: a dimension is {what}.")


def _symbol(dim: int | ir.SymbolicDim) -> str | None:
    return None if isinstance(dim, int) else dim.value


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs
