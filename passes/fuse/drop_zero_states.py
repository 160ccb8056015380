"""Drop initial states of zeros from recurrent layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import constant_array, input_of, is_op, site

STATES = (5, 6)  # initial_h; initial_c of an LSTM
# Operators whose result is zero where their first input is (Concat: all of its inputs).
KEEP_ZEROS = ("Expand", "Slice", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Identity", "Cast", "Tile", "Split")
SMALL = 65536


@dataclass(frozen=True)
class DropZeroStates(Pass):
    """LSTM(x, W, R, B, lengths, 0, 0) -> LSTM(x, W, R, B, lengths), likewise GRU and RNN: zeros are the default.

    The shape arithmetic that made the zeros is then dead. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "drop-zero-states"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        for graph in model.graphs():
            for node in graph:
                if not is_op(node, "LSTM", "GRU", "RNN"):
                    continue
                zeros = [k for k in STATES if _is_zero(input_of(node, k))]
                for k in zeros:
                    node.replace_input_with(k, None)
                if zeros:
                    changed.append(site(node))
        return Outcome(tuple(changed))


def _is_zero(value: ir.Value | None) -> bool:
    """Whether all elements are known to be zero."""
    while value is not None:
        array = constant_array(value) if value.is_initializer() else None
        if array is not None:
            return array.size <= SMALL and not array.any()
        producer = value.producer()
        if is_op(producer, "ConstantOfShape") and producer is not None:
            fill = producer.attributes.get("value")
            return fill is None or (not fill.is_ref() and not fill.as_tensor().numpy().any())
        if producer is None or not is_op(producer, *KEEP_ZEROS):
            return is_op(producer, "Concat") and producer is not None and all(map(_is_zero, producer.inputs))
        value = producer.inputs[0]
    return False
