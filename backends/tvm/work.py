"""What a node is called, and what it takes before anything is measured."""

from __future__ import annotations

import math

import onnx_ir as ir

from lwc.compiler.analysis.sites import macs

# Of a usual core; only their ratio counts.
MACS_PER_US = 5e4
ELEMENTS_PER_US = 2e3


def label(node: ir.Node) -> str:
    """What a node is called in reports: its name, or that of the first value it makes."""
    return node.name or next((value.name for value in node.outputs if value.name), None) or node.op_type


def microseconds(node: ir.Node) -> float:
    """Roughly: multiplications, values written, and one for the call. Unknown dimensions count as 1."""
    shapes = [value.shape for value in node.outputs if value.shape is not None]
    elements = sum(math.prod(size for size in shape if isinstance(size, int)) for shape in shapes)
    return 1.0 + macs(node) / MACS_PER_US + elements / ELEMENTS_PER_US
