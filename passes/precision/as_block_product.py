"""A product by a weight in blocks: com.microsoft::MatMulNBits, or what ONNX Runtime makes one of.

    y = x W + b       w = scale * (code - zero), one scale per output and block of inputs

MatMulNBits      codes [out, blocks, block * bits / 8] uint8 from zero, two 4-bit ones to a byte; the last block is
                 filled up; zero points packed alike, absent when they are the middle code
in the standard  MatMul(x, DequantizeLinear<block_size>(codes [in, out]))
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.sites import SITE_KEY
from lwc.compiler.analysis.units import Unit, array_of
from lwc.passes.edit import replace_node
from lwc.passes.precision.integer_weights import Emitter, IntegerWeight
from lwc.passes.precision.solved import Bytes, SmallCodes, paired

FOREIGN = "com.microsoft"


def write_bits_product(emitter: Emitter, unit: Unit, weight: IntegerWeight, accuracy_level: int) -> None:
    """Put a MatMulNBits in the place of the unit. accuracy_level: 1 float32, 4 int8 activations per block."""
    stored, name, node = weight.stored, weight.name, unit.node
    codes = emitter.once("codes", weight, lambda: emitter.constant(f"{name}.q", _blob(weight)))
    scale = emitter.once(
        "scale", weight, lambda: emitter.as_float(emitter.constant(f"{name}.q_scale", weight.scales()))
    )
    zero = None
    if not stored.symmetric:
        zero = emitter.once("zero", weight, lambda: emitter.constant(f"{name}.q_zero", _zero_blob(weight)))
    inputs = [node.inputs[0], codes, scale]
    bias = _bias(emitter, unit, stored.view.rows)
    if zero is not None or bias is not None:
        inputs.append(zero)
    if bias is not None:
        inputs += [None, bias]
    attributes = {
        "K": stored.view.columns,
        "N": stored.view.rows,
        "bits": stored.bits,
        "block_size": stored.group,
        "accuracy_level": accuracy_level,
    }
    product = emitter.node("MatMulNBits", inputs, f"{node.name}.bits", attributes=attributes, domain=FOREIGN)
    _take_place(unit, product)


def write_blocked_product(emitter: Emitter, unit: Unit, weight: IntegerWeight) -> None:
    """Let MatMul multiply by a blocked DequantizeLinear; a Gemm becomes a MatMul and an Add."""
    stored, node = weight.stored, unit.node
    product = emitter.node("MatMul", [node.inputs[0], _blocked(emitter, weight)], f"{node.name}.blocks")
    bias = _bias(emitter, unit, stored.view.rows)
    if bias is None:
        _take_place(unit, product)
        return
    product.metadata_props[SITE_KEY] = node.name or ""
    product.outputs[0].shape = unit.output.shape
    assert node.graph is not None
    node.graph.insert_before(node, product)
    _take_place(unit, emitter.node("Add", [product.outputs[0], bias], f"{node.name}.sum"))


def _blocked(emitter: Emitter, weight: IntegerWeight) -> ir.Value:
    """[in, out] dequantized, in a node of its own for each reader, as the runtime wants it."""
    stored, name = weight.stored, weight.name

    def integers(part: str, matrix: SmallCodes) -> ir.Value:
        return emitter.once(part, weight, lambda: emitter.integers(f"{name}.{part}", matrix.T, stored.bits))

    scale = emitter.once(
        "scale", weight, lambda: emitter.as_float(emitter.constant(f"{name}.q_scale", weight.scales().T))
    )
    zero = [] if stored.symmetric else [integers("q_zero", weight.zeros())]
    shape = (stored.view.columns, stored.view.rows)
    attributes = {"axis": 0, "block_size": stored.group}
    return emitter.computed(
        "DequantizeLinear", [integers("q", weight.codes), scale, *zero], "blocks", shape, attributes
    )


def _take_place(unit: Unit, new: ir.Node) -> None:
    """`new` computes what the unit and its bias Add did, under the name of the unit's node."""
    node, last = unit.node, unit.tail[-1] if unit.tail else unit.node
    new.name = node.name
    new.metadata_props.update(node.metadata_props)
    replace_node(last, new)
    if last is not node:
        assert node.graph is not None
        node.graph.remove(node, safe=True)


def _bias(emitter: Emitter, unit: Unit, channels: int) -> ir.Value | None:
    """One number per output, beta multiplied in."""
    if unit.bias is None:
        return None
    numbers = array_of(unit.bias).astype(np.float32).reshape(-1)
    if unit.factors[1] == 1.0 and array_of(unit.bias).shape == (channels,):
        return unit.bias
    full: NDArray[np.float32] = np.broadcast_to(numbers * np.float32(unit.factors[1]), (channels,))
    return emitter.constant(f"{unit.bias.name}.full", full)


def _blob(weight: IntegerWeight) -> Bytes:
    """[out, blocks, bytes]; columns beyond the last are the zero point."""
    stored = weight.stored
    zeros = weight.zeros_from_zero()
    codes = np.repeat(zeros, stored.group, axis=1)
    codes[:, : stored.view.columns] = weight.from_zero()
    blocks = codes.reshape(stored.view.rows, stored.groups, stored.group)
    return blocks if stored.bits == 8 else paired(blocks)


def _zero_blob(weight: IntegerWeight) -> Bytes:
    """[out * bytes of its zero points]."""
    zeros = weight.zeros_from_zero()
    if weight.stored.bits == 8:
        return zeros.reshape(-1)
    if zeros.shape[1] % 2:
        zeros = np.pad(zeros, ((0, 0), (0, 1)))
    return paired(zeros).reshape(-1)
