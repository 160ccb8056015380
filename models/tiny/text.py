"""Tiny models from ONNX text, with weights drawn by seed where the text gives none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, parser

Builder = Callable[[], ir.Model]

_POSITIVE = ("gamma", "scale", "var")
# Weights outside of the inputs need IR version 4.
_WEIGHTS_OUTSIDE_INPUTS = 4


def graph(body: str, opset: int = 17, domains: Sequence[str] = (), weights_are_inputs: bool = False) -> Builder:
    """A builder for the graph `(inputs) => (outputs) <weights> { nodes }`; functions may follow.

    A weight declared between `<` and `>` without values is drawn by a fixed seed: floating point ones are
    normal with variance 1 / fan-in (uniform in 0.5 to 1.5 when called gamma, scale or var), integers of 4
    and 8 bits uniform over their range. Wider integers need values in the text.
    domains: imported at version 1 besides the standard one
    weights_are_inputs: list weights among the inputs too, the only way before IR version 4
    """

    def build() -> ir.Model:
        return ir.from_proto(_parse(body, opset, domains, weights_are_inputs))

    return build


def _parse(body: str, opset: int, domains: Sequence[str], weights_are_inputs: bool) -> onnx.ModelProto:
    ir_version = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    if not weights_are_inputs:
        ir_version = max(ir_version, _WEIGHTS_OUTSIDE_INPUTS)
    imports = ", ".join([f'"" : {opset}', *(f'"{domain}" : 1' for domain in domains)])
    model = parser.parse_model(f"<ir_version: {ir_version}, opset_import: [{imports}]> tiny {body}")
    rng = np.random.default_rng(0)
    for scope in _scopes(model.graph):
        _draw_weights(scope, rng)
    if weights_are_inputs:
        model.graph.input.extend(
            helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
            for weight in model.graph.initializer
        )
    return model


def _scopes(scope: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and its subgraphs."""
    yield scope
    for node in scope.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _scopes(attribute.g)


def _draw_weights(scope: onnx.GraphProto, rng: np.random.Generator) -> None:
    """Turn declarations that no node makes into initializers."""
    made = {output for node in scope.node for output in node.output}
    made.update(weight.name for weight in scope.initializer)
    declared = [info for info in scope.value_info if info.name not in made]
    for info in declared:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        values = _draw(info.name, ir.DataType(info.type.tensor_type.elem_type), shape, rng)
        scope.initializer.append(ir.to_proto(ir.tensor(values, name=info.name)))
        scope.value_info.remove(info)


def _draw(name: str, dtype: ir.DataType, shape: Sequence[int], rng: np.random.Generator) -> NDArray[np.generic]:
    if dtype.is_floating_point():
        fan_in = max(1, int(np.prod(shape[1:])))
        values = rng.standard_normal(shape) * fan_in**-0.5
        if any(word in name for word in _POSITIVE):
            values = rng.uniform(0.5, 1.5, shape)
        return np.asarray(values).astype(dtype.numpy())
    if dtype.bitwidth > 8:
        raise ValueError(f"Weight {name!r} has type {dtype}: write its values in the text.")
    low, high = (-(2 ** (dtype.bitwidth - 1)), 2 ** (dtype.bitwidth - 1))
    if not dtype.is_signed():
        low, high = 0, 2**dtype.bitwidth
    return rng.integers(low, high, shape).astype(dtype.numpy())
