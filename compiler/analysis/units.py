"""Units: what one integer kernel computes, an operator with the constants, bias and activation it swallows.

What becomes one kernel follows ONNX Runtime on CPUs (found by saving its optimized graphs, 1.31):

    Conv, Gemm, MatMul (+ Add of a constant) (+ Relu or Clip)     QLinearConv, QGemm, QLinearMatMul
    Add, Sum of two, Mul, Concat (+ Relu or Clip)                 QLinearAdd ... of com.microsoft
    AveragePool, BatchNormalization (+ Relu or Clip)              depthwise QLinearConv
    GlobalAveragePool, Sigmoid, LeakyRelu, Softmax                one kernel each
    HardSigmoid, HardSwish, Tanh                                  QLinearAdd, QLinearMul, QLinearSigmoid
    ConvTranspose, normalizations, Gelu                           none

A Relu or Clip behind a unit costs nothing: the limits of the quantized range do its work. Scope: main graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

WEIGHT_OPS = frozenset({"Conv", "Gemm", "MatMul"})
ELEMENTWISE_OPS = frozenset({"Add", "Sum", "Mul", "Concat", "BatchNormalization"})
UNARY_OPS = frozenset(
    {"AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu", "Softmax", "HardSigmoid", "HardSwish", "Tanh"}
)
INTEGER_OPS = WEIGHT_OPS | ELEMENTWISE_OPS | UNARY_OPS


@dataclass(frozen=True, eq=False)
class Unit:
    """inputs: positions that take integers at run time;  constants: positions of constants quantized per tensor

    weight: position of the constant quantized per channel of its `axis` (None: one scale for all)
    bias: constant added to the product;  factors: what Gemm multiplies product and bias by
    tail: the swallowed nodes in order;  output: the value behind them
    floor, ceiling: limits of the swallowed activation
    writes_float: the kernel may leave its output in float32 at no cost
    """

    node: ir.Node
    inputs: tuple[int, ...]
    output: ir.Value
    constants: tuple[int, ...] = ()
    weight: int | None = None
    axis: int | None = None
    bias: ir.Value | None = None
    factors: tuple[float, float] = (1.0, 1.0)
    tail: tuple[ir.Node, ...] = ()
    floor: float = -math.inf
    ceiling: float = math.inf
    writes_float: bool = False

    @property
    def activation(self) -> ir.Node | None:
        """The swallowed Relu or Clip."""
        return self.tail[-1] if self.tail and self.tail[-1].op_type != "Add" else None

    def without_activation(self) -> Unit:
        """The same unit up to the Relu or Clip, which stays a node of its own."""
        last = self.activation
        if last is None:
            return self
        before = last.inputs[0]
        assert before is not None
        return replace(self, tail=self.tail[:-1], output=before, floor=-math.inf, ceiling=math.inf)

    def operands(self) -> tuple[ir.Value, ...]:
        """The values that arrive as integers, each once."""
        found = (self.node.inputs[index] for index in self.inputs)
        return tuple(dict.fromkeys(value for value in found if value is not None))


def unit_of(node: ir.Node) -> Unit | str:
    """The unit around a node, or the reason why no integer kernel computes it."""
    if node.domain != "" or node.op_type not in INTEGER_OPS:
        return f"there is no integer kernel for {node.op_type}"
    if any(_is_dequantized(value) for value in node.inputs):
        return "it is quantized already"
    if any(value is not None and value.dtype not in (None, ir.DataType.FLOAT) for value in node.inputs):
        return "it does not compute in float32"
    if any(is_constant(value) and not array_of(value).size for value in node.inputs if value is not None):
        return "one of its constants is empty"
    if factor(node) is not None:
        return "it only rescales, which its neighbours do for nothing"
    if node.op_type in WEIGHT_OPS and len(node.inputs) > 1 and is_constant(node.inputs[1]):
        found = _convolution(node) if node.op_type == "Conv" else _product(node)
    elif node.op_type in ("Conv", "Gemm"):
        return "its weight is not constant"
    else:
        found = _activations_only(node)
    return found if isinstance(found, str) else _with_activation(found)


def is_constant(value: ir.Value | None) -> bool:
    """Whether this is an initializer that no caller can override."""
    return value is not None and value.is_initializer() and not value.is_graph_input() and value.const_value is not None


def factor(node: ir.Node) -> float | None:
    """c when the node only multiplies its first input by one positive constant: that rescales codes for nothing."""
    if node.domain != "" or node.op_type not in ("Mul", "Div") or not is_constant(node.inputs[1]):
        return None
    value = node.inputs[1]
    assert value is not None
    number = array_of(value)
    if number.size != 1 or number.ndim > _rank(node.inputs[0], 0) or not 0.0 < float(number.reshape(())) < math.inf:
        return None
    c = float(number.reshape(()))
    return c if node.op_type == "Mul" else 1.0 / c


def array_of(value: ir.Value) -> NDArray[Any]:
    """The numbers of a constant."""
    assert value.const_value is not None
    return value.const_value.numpy()


def _is_dequantized(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _activations_only(node: ir.Node) -> Unit | str:
    """Add, Mul, Concat, MatMul and unary operators, with constants among their inputs at most."""
    constants = tuple(k for k, value in enumerate(node.inputs) if is_constant(value))
    inputs = tuple(k for k in range(len(node.inputs)) if k not in constants)
    if not inputs:
        return "its inputs are constant"
    for index in inputs:
        value = node.inputs[index]
        if value is None or value.dtype != ir.DataType.FLOAT:
            return "the type of an input is unknown"
    if node.op_type == "AveragePool" and node.attributes.get_int("ceil_mode", 0) != 0:
        return "integer pooling does not round sizes up"
    if node.op_type == "HardSigmoid" and node.attributes.get_float("alpha", 0.2) <= 0:
        return "its slope is not positive"
    if node.op_type == "Sum" and len(node.inputs) != 2:
        return "it does not add two values"
    if node.op_type == "BatchNormalization" and (constants != (1, 2, 3, 4) or _rank(node.inputs[0], 0) < 3):
        return "it is not applied to images with constants"
    if node.op_type == "BatchNormalization" and len(node.outputs) > 1:
        return "it is in training mode"
    return Unit(node, inputs, node.outputs[0], constants, writes_float=node.op_type == "MatMul")


def _convolution(node: ir.Node) -> Unit | str:
    if is_constant(node.inputs[0]):
        return "its input is constant"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not is_constant(bias):
        return "its bias is not constant"
    return Unit(node, (0,), node.outputs[0], weight=1, axis=0, bias=bias)


def _product(node: ir.Node) -> Unit | str:
    """MatMul or Gemm by a constant; a constant Add behind a MatMul is its bias."""
    weight = node.inputs[1]
    assert weight is not None
    shape = array_of(weight).shape
    if is_constant(node.inputs[0]):
        return "its input is constant"
    if node.op_type == "MatMul":
        axis = 1 if len(shape) == 2 else None
        unit = Unit(node, (0,), node.outputs[0], weight=1, axis=axis, writes_float=True)
        return unit if axis is None else _with_bias(unit, shape[1])
    axis = 0 if node.attributes.get_int("transB", 0) else 1
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not (is_constant(bias) and array_of(bias).size in (1, shape[axis])):
        return "its third input is not a constant bias"
    if bias is not None and array_of(bias).size != 1 and array_of(bias).shape[-1] != shape[axis]:
        return "its third input is added per row"
    factors = (node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0))
    return Unit(node, (0,), node.outputs[0], weight=1, axis=axis, bias=bias, factors=factors, writes_float=True)


def _with_bias(unit: Unit, channels: int) -> Unit:
    add = _sole_reader(unit.output)
    if add is None or add.op_type != "Add":
        return unit
    other = next((value for value in add.inputs if value is not unit.output), None)
    if other is None or not is_constant(other) or array_of(other).dtype != np.float32:
        return unit
    shape = array_of(other).shape
    if math.prod(shape) != channels or shape[-1:] != (channels,) or len(shape) > _rank(unit.node.inputs[0], 1):
        return unit
    return replace(unit, bias=other, tail=(add,), output=add.outputs[0])


def _rank(value: ir.Value | None, unknown: int) -> int:
    return unknown if value is None or value.shape is None else len(value.shape)


def _with_activation(unit: Unit) -> Unit:
    """Swallow a Relu or Clip that is the only reader; zero, which integers always hold, must be within its limits."""
    if unit.node.op_type in UNARY_OPS - {"AveragePool"}:
        return unit
    last = _sole_reader(unit.output)
    limits = None if last is None else _limits(last)
    if last is None or limits is None or not limits[0] <= 0.0 <= limits[1]:
        return unit
    floor, ceiling = limits
    return replace(unit, tail=(*unit.tail, last), output=last.outputs[0], floor=floor, ceiling=ceiling)


def _sole_reader(value: ir.Value) -> ir.Node | None:
    """The node of the same graph that alone reads the value, once."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    reader = next(iter(uses)).node
    return reader if reader.graph is value.graph and reader.domain == "" else None


def _limits(node: ir.Node) -> tuple[float, float] | None:
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip" or "min" in node.attributes or "max" in node.attributes:
        return None
    limits = [-math.inf, math.inf]
    for k, value in enumerate(node.inputs[1:3]):
        if value is None:
            continue
        if not is_constant(value):
            return None
        limits[k] = float(array_of(value).reshape(()))
    return limits[0], limits[1]
