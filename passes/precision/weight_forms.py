"""How integer weights are written so that ONNX Runtime runs them well, and what they then weigh.

What ONNX Runtime 1.31 does on CPUs (found by saving its optimized graphs; loading folds constants once):

    Cast, Sub, Mul, Reshape, Expand, Slice of constants      folded, from int8, uint8, int4, uint4 and float16 alike:
                                                             afterwards the model runs as in float
    DequantizeLinear of constants                            not folded: computed anew at every run, unless the
                                                             session sets session.disable_quant_qdq
    MatMul by a blocked DequantizeLinear [in, out], axis 0   becomes MatMulNBits, 8 bits as well as 4, with or without
                                                             zero points, whatever the width of the last block; an
                                                             Add behind it becomes its bias
    MatMulNBits                                              4 and 8 bits, blocks of 16 to 256

    operator                   form         portable     why
    MatMul, Gemm, few rows     NBITS        BLOCKED      one kernel on codes; it takes blocks of BLOCKS columns
    MatMul, Gemm, many rows    FOLDED       FOLDED       where float is faster, and exact in its activations; but
                                                         matrices of FOLDED_WEIGHTS as with few rows
    Gather of rows             LOOKED_UP    LOOKED_UP    a folded table would take float's memory
    all others                 FOLDED       FOLDED       no kernel on codes: float's speed in a smaller file

MatMulNBits with int8 activations (accuracy_level 4) against float, [rows, 384] x [384, 1536], one thread, AVX512-VNNI:

    rows                          1       4       8      16      32     128
    8 bits, blocks of 128      4.9x    2.5x    1.9x    1.3x    1.2x    1.0x
    4 bits, blocks of 32       3.8x    1.8x    1.3x    0.9x    0.9x    0.6x
    dynamic int8               3.6x    3.9x    4.7x    5.4x    6.6x    6.6x

Folding keeps what it made on the way: a decoder of 210 MB in float loads in 0.8 GB from folded 4-bit weights, in
0.07 GB from MatMulNBits, and runs 1.0 to 1.3x as long (64 rows).

In float32 (accuracy_level 1) 4 bits run at 1.4x for one row, and 8 bits at 0.1x. GatherBlockQuantized of com.microsoft
is as fast as LOOKED_UP and keeps its scales in float32: not used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import onnx_ir as ir

from lwc.compiler.analysis.units import Unit, unit_of
from lwc.compiler.analysis.weights import WeightView, weights_at
from lwc.compiler.core.plan import Choice, WeightOnly
from lwc.passes.edit import rank

SCALE_BYTES = 2  # float16
MANY_ROWS = 16
FOLDED_WEIGHTS = 1 << 20  # from here on memory counts for more than time
BLOCKS = (16, 32, 64, 128, 256)  # what MatMulNBits takes


class Form(Enum):
    """NBITS: com.microsoft::MatMulNBits;  BLOCKED: MatMul behind a blocked DequantizeLinear, which becomes the former

    FOLDED: Cast and Mul that are constants once loaded;  LOOKED_UP: rows of codes are gathered, then multiplied out
    """

    NBITS = "nbits"
    BLOCKED = "blocked"
    FOLDED = "folded"
    LOOKED_UP = "looked up"


@dataclass(frozen=True)
class Stored:
    """One matrix as it is stored. group: columns that share a scale."""

    form: Form
    view: WeightView
    bits: int
    symmetric: bool
    group: int

    @property
    def groups(self) -> int:
        return -(-self.view.columns // self.group)

    @property
    def bytes(self) -> int:
        """Codes, scales and zero points."""
        scales = self.view.rows * self.groups
        zeros = 0 if self.symmetric else self._zero_bytes(scales)
        return self._code_bytes() + SCALE_BYTES * scales + zeros

    def _code_bytes(self) -> int:
        columns = self.groups * self.group if self.form is Form.NBITS else self.view.columns
        return -(-self.view.rows * columns * self.bits // 8)

    def _zero_bytes(self, scales: int) -> int:
        if self.form is Form.NBITS:
            return self.view.rows * -(-self.groups * self.bits // 8)
        return scales if self.form is Form.LOOKED_UP else -(-scales * self.bits // 8)


def stored(node: ir.Node, view: WeightView, choice: WeightOnly, *, portable: bool) -> Stored:
    """How a constant input of a node is stored under the choice.

    portable: with operators of the standard domain alone
    Groups are the choice's where a kernel takes them, else about as wide.
    """
    group = min(choice.group, view.columns) or view.columns
    even = _even_group(group, view.columns)
    if not view.inner and _is_table(node, view):
        even = even if view.columns % even == 0 else view.columns
        form = Form.LOOKED_UP if choice.bits == 8 or even % 2 == 0 else Form.FOLDED
        return Stored(form, view, choice.bits, choice.symmetric, even)
    if not view.inner and choice.group in BLOCKS and _multiplies(node, view):
        if not portable:
            return Stored(Form.NBITS, view, choice.bits, choice.symmetric, _least_block(choice.group, view.columns))
        if group in BLOCKS:
            return Stored(Form.BLOCKED, view, choice.bits, choice.symmetric, group)
    return Stored(Form.FOLDED, view, choice.bits, choice.symmetric, even)


def stored_bytes(node: ir.Node, choice: Choice, *, portable: bool) -> int:
    """Bytes of all constants that the node reads, under the choice; of one that n nodes read alike, an nth."""
    weights = {(reader, view.index): view for reader, view in weights_at(node)}
    read = {(node, index): value for index, value in enumerate(node.inputs)}
    read.update({(reader, index): reader.inputs[index] for reader, index in weights})
    total = 0.0
    for (reader, index), value in read.items():
        if value is None or value.const_value is None:
            continue
        view = weights.get((reader, index))
        size = int(value.const_value.nbytes)
        if view is not None and isinstance(choice, WeightOnly):
            size = stored(reader, view, choice, portable=portable).bytes
        total += size / max(1, len(value.uses()))
    return round(total)


def product(node: ir.Node) -> Unit | None:
    """The unit x W + b of a MatMul or Gemm with a constant matrix W, without the activation behind it."""
    if node.op_type not in ("MatMul", "Gemm") or node.attributes.get_int("transA", 0) == 1:
        return None
    unit = unit_of(node)
    return unit.without_activation() if isinstance(unit, Unit) and unit.weight == 1 and unit.axis is not None else None


def _multiplies(node: ir.Node, view: WeightView) -> bool:
    large = view.rows * view.columns >= FOLDED_WEIGHTS
    return view.index == 1 and (large or _has_few_rows(node.inputs[0])) and product(node) is not None


def _has_few_rows(value: ir.Value | None) -> bool:
    """Whether an activation may have less than MANY_ROWS; unknown sizes count as one, as in decoders."""
    if value is None or value.shape is None or len(value.shape) < 2:
        return False
    return math.prod(size for size in value.shape[:-1] if isinstance(size, int)) < MANY_ROWS


def _is_table(node: ir.Node, view: WeightView) -> bool:
    return (
        node.op_type == "Gather"
        and view.index == 0
        and node.attributes.get_int("axis", 0) == 0
        and rank(node.inputs[1]) is not None
    )


def _even_group(group: int, columns: int) -> int:
    """The divisor of the columns that is nearest to the group, if one is within a factor of two; else the group.

    A narrower last group takes four more nodes, which weigh more than most convolutions' scales.
    """
    near = [size for size in range(-(-group // 2), 2 * group + 1) if columns % size == 0]
    return min(near, key=lambda size: (max(size / group, group / size), size), default=group)


def _least_block(block: int, columns: int) -> int:
    """The block, or the smallest that holds all columns when it would be filled up by more than half."""
    while block > BLOCKS[0] and block // 2 >= columns:
        block //= 2
    return block
