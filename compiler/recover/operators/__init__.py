"""Operators of ONNX as functions of torch, by name: f(attributes, inputs ...) -> output or outputs in order.

An input that is left out is None. The functions keep to the opsets from 13 on; what differs between later ones is
told by the attributes and inputs that a node has. Those of "com.microsoft" have names that the standard does not use,
or mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lwc.compiler.recover.operators import (
    attention,
    elementwise,
    layout,
    linear,
    norms,
    pooling,
    recurrent,
    reductions,
    resize,
)

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
OLDEST_OPSET = 13

OPERATORS: Mapping[str, Callable[..., object]] = {
    **attention.OPERATORS,
    **elementwise.OPERATORS,
    **layout.OPERATORS,
    **linear.OPERATORS,
    **norms.OPERATORS,
    **pooling.OPERATORS,
    **recurrent.OPERATORS,
    **reductions.OPERATORS,
    **resize.OPERATORS,
}
# com.microsoft has operators of these names that mean something else.
OTHERWISE = frozenset({"Attention", "RotaryEmbedding"})
# How many outputs the functions give, where nodes may name more: those are of training, or places of maxima.
MOST_OUTPUTS: Mapping[str, int] = {"Attention": 3, "BatchNormalization": 1, "MaxPool": 1}
