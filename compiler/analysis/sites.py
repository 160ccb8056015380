"""Sites: the nodes of the main graph where a number format can be chosen, and what may be chosen there.

    weight       operators with a constant weight (weights.py): Conv, Gemm, MatMul, LSTM, lookups in a table ...
    activation   operators without weights that have an integer kernel, or move data in integers (Resize)

No sites, because they follow their neighbours: a Relu, Clip or bias behind a site, which its kernel swallows, and
operators that move values (Reshape, MaxPool ...), which do so in whatever format the values come.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from lwc.compiler.analysis.units import Unit, array_of, is_constant, unit_of
from lwc.compiler.analysis.weights import weights_at
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import (
    BFloat16,
    Choice,
    DynamicInt8,
    Float,
    Float16,
    Site,
    StaticInt8,
    Weight4,
    Weight8,
    Weight16,
)
from lwc.compiler.core.target import Target

WORTH_STORING = 128  # values
SITE_KEY = "lwc.site"  # in the metadata of nodes that a pass adds to a site: their time is the site's


def find_sites(model: Model, target: Target) -> tuple[Site, ...]:
    """Sites in graph order. Nodes need unique names."""
    found: list[Site] = []
    swallowed: set[ir.Node] = set()
    for node in model.graph:
        if not node.name or node in swallowed:
            continue
        unit = unit_of(node)
        if isinstance(unit, Unit):
            swallowed.update(unit.tail)
            found.append(site_of(node))
        elif _is_float_layer(node) or _worth_storing(node):
            found.append(site_of(node))
    return tuple(found)


def swallowed_by(model: Model) -> dict[str, str]:
    """Names of nodes that are no sites because a site's kernel does their work -> name of that site.

    In float some of them run on their own (the bias Add behind a MatMul): their time belongs to the site.
    """
    owners: dict[str, str] = {}
    for node in model.graph:
        unit = unit_of(node)
        if isinstance(unit, Unit) and node.name and node.name not in owners:
            owners.update({swallowed.name or "": node.name for swallowed in unit.tail})
    return owners


def site_of(node: ir.Node) -> Site:
    """The site of a node."""
    weight = node.op_type in ("Conv", "Gemm", "ConvTranspose") or (
        node.op_type == "MatMul" and len(node.inputs) > 1 and is_constant(node.inputs[1])
    )
    return Site(node.name or "", node.op_type, "weight" if weight or weights_at(node) else "activation")


def choices_at(model: Model, site: Site, target: Target) -> tuple[Choice, ...]:
    """What the target's runtimes can do at a site of `find_sites`; float first."""
    return choices_of(next(node for node in model.graph if node.name == site.name), target)


def choices_of(node: ir.Node, target: Target) -> tuple[Choice, ...]:
    """The same at the site of a node."""
    choices: list[Choice] = [Float()]
    unit = unit_of(node)
    integers = not unrounded(node)
    if integers and isinstance(unit, Unit):
        choices.append(StaticInt8())
        # ConvInteger, the dynamic form of Conv, has no fast kernel: 0.12 to 0.37 of float's speed in ONNX Runtime.
        if unit.weight is not None and node.op_type in ("Gemm", "MatMul"):
            choices.append(DynamicInt8())
    choices += [BFloat16(), Float16()]
    if integers and _worth_storing(node):
        # MatMulNBits takes blocks; elsewhere a scale per output is enough for 8 bits. With 4 bits, zero points make
        # the file some 3 % larger and its noise markedly smaller (magika, ppocr, basic-pitch).
        choices.append(Weight8(group=128 if node.op_type in ("Gemm", "MatMul") else 0))
        choices.append(Weight4(group=32, symmetric=False))
        choices.append(Weight16())
    return tuple(choice for choice in choices if isinstance(choice, Float) or choice.name in target.choices)


def unrounded(node: ir.Node) -> str:
    """Why no integers can stand for the node's constants: one holds NaN or infinity; empty when they can."""
    unit = unit_of(node)
    read = [reader.inputs[view.index] for reader, view in weights_at(node)]
    if isinstance(unit, Unit):
        read += [*node.inputs, unit.bias]
    for value in dict.fromkeys(read):
        if value is not None and is_constant(value) and (array := array_of(value)).size:
            least, greatest = float(array.min()), float(array.max())
            if not (math.isfinite(least) and math.isfinite(greatest)):
                return f"'{value.name}' holds {'NaN' if math.isnan(least) else 'infinity'}: it stays float"
    return ""


def _is_float_layer(node: ir.Node) -> bool:
    """ConvTranspose has weights worth deciding about, and no integer kernel."""
    return node.op_type == "ConvTranspose" and node.domain == "" and is_constant(node.inputs[1])


def _worth_storing(node: ir.Node) -> bool:
    """Whether integers instead of its float32 constants make the file smaller: nodes for them take some 200 bytes."""
    return sum(view.rows * view.columns for _, view in weights_at(node)) >= WORTH_STORING


def macs(node: ir.Node) -> int:
    """Multiply-accumulates of one run of a Conv, ConvTranspose, Gemm or MatMul, or of their integer forms; else 0.

        Conv            out elements * in channels / groups * kernel
        ConvTranspose   in elements * out channels / groups * kernel
        Gemm, MatMul    out elements * inner
        MatMulNBits     rows * K * N

    Needs shapes annotated on values; an unknown dimension counts as 1.
    """
    if len(node.inputs) < 2 or not node.outputs:
        return 0
    if (node.domain, node.op_type) == ("com.microsoft", "MatMulNBits"):
        rows = math.prod(_dims(node.inputs[0])[:-1])
        return rows * node.attributes.get_int("K", 0) * node.attributes.get_int("N", 0)
    if node.domain != "":
        return 0
    weight = _dims(node.inputs[1])
    if node.op_type in ("Conv", "ConvInteger"):
        return math.prod(_dims(node.outputs[0])) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(_dims(node.inputs[0])) * math.prod(weight[1:])
    if node.op_type in ("MatMul", "MatMulInteger"):
        if not _dims(node.outputs[0]):  # its shape is not known, or it is a product of two vectors
            return math.prod(weight)
        summed = _dims(node.inputs[0])[-1:] if not weight else weight[-2:-1] or weight
        return math.prod(_dims(node.outputs[0])) * math.prod(summed)
    if node.op_type == "Gemm" and len(weight) == 2:
        return math.prod(_dims(node.outputs[0])) * weight[1 if node.attributes.get_int("transB", 0) else 0]
    return 0


def parameters(node: ir.Node) -> int:
    """How many weight values the node reads."""
    return sum(array_of(value).size for value in dict.fromkeys(node.inputs) if value is not None and is_constant(value))


def _dims(value: ir.Value | None) -> list[int]:
    if value is None or value.shape is None:
        return []
    return [dim if isinstance(dim, int) else 1 for dim in value.shape]
