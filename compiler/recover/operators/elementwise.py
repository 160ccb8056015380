"""Operators on one number, or on two that broadcast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from lwc.compiler.recover.operators.attributes import Attributes
from lwc.compiler.recover.operators.dtypes import torch_dtype

Operator = Callable[..., object]


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda a, x: function(x)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda a, x, y: function(x, y)


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda a, *xs: reduce(function, xs)


def divide(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def power(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    """A lone exponent as a number, whose derivative at zero is finite; the result has the type of x."""
    exponent = y.item() if y.numel() == 1 and y.ndim <= x.ndim and not y.requires_grad else y
    return torch.pow(x, exponent).to(x.dtype)


def modulo(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    """With fmod the sign of x, else that of y."""
    return torch.fmod(x, y) if a.flag("fmod") else torch.remainder(x, y)


def clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if low is not None:
        x = torch.maximum(x, low.to(x.dtype))
    return x if high is None else torch.minimum(x, high.to(x.dtype))


def prelu(a: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def gelu(a: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=a.text("approximate", "none"))


def bias_gelu(a: Attributes, x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias)


def fast_gelu(a: Attributes, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


def quick_gelu(a: Attributes, x: Tensor) -> Tensor:
    return x * torch.sigmoid(a.number("alpha", 1.702) * x)


def swish(a: Attributes, x: Tensor) -> Tensor:
    return x * torch.sigmoid(a.number("alpha", 1.0) * x)


def selu(a: Attributes, x: Tensor) -> Tensor:
    alpha, gamma = a.number("alpha", 1.6732631921768188), a.number("gamma", 1.0507010221481323)
    return gamma * F.elu(x, alpha)


def hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    return (a.number("alpha", 0.2) * x + a.number("beta", 0.5)).clamp(0, 1)


def is_infinite(a: Attributes, x: Tensor) -> Tensor:
    negative = torch.isneginf(x) & bool(a.integer("detect_negative", 1))
    return negative | (torch.isposinf(x) & bool(a.integer("detect_positive", 1)))


def cast(a: Attributes, x: Tensor) -> Tensor:
    return x.to(torch_dtype(a.integer("to")))


def softmax(a: Attributes, x: Tensor) -> Tensor:
    return torch.softmax(x, a.integer("axis", -1))


def log_softmax(a: Attributes, x: Tensor) -> Tensor:
    return torch.log_softmax(x, a.integer("axis", -1))


def mean(a: Attributes, *xs: Tensor) -> Tensor:
    total: Tensor = reduce(torch.add, xs)
    return total / len(xs)


OPERATORS: Mapping[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Acos": _unary(torch.acos),
    "Acosh": _unary(torch.acosh),
    "Asin": _unary(torch.asin),
    "Asinh": _unary(torch.asinh),
    "Atan": _unary(torch.atan),
    "Atanh": _unary(torch.atanh),
    "Ceil": _unary(torch.ceil),
    "Cos": _unary(torch.cos),
    "Cosh": _unary(torch.cosh),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor),
    "HardSwish": _unary(F.hardswish),
    "Identity": _unary(lambda x: x),
    "IsNaN": _unary(torch.isnan),
    "Log": _unary(torch.log),
    "Mish": _unary(F.mish),
    "Neg": _unary(torch.neg),
    "Not": _unary(torch.logical_not),
    "Reciprocal": _unary(torch.reciprocal),
    "Relu": _unary(torch.relu),
    "Round": _unary(torch.round),
    "Sigmoid": _unary(torch.sigmoid),
    "Sign": _unary(torch.sign),
    "Sin": _unary(torch.sin),
    "Sinh": _unary(torch.sinh),
    "Softplus": _unary(F.softplus),
    "Softsign": _unary(F.softsign),
    "Sqrt": _unary(torch.sqrt),
    "Tan": _unary(torch.tan),
    "Tanh": _unary(torch.tanh),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "Equal": _binary(torch.eq),
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Mul": _binary(torch.mul),
    "Or": _binary(torch.logical_or),
    "Sub": _binary(torch.sub),
    "Xor": _binary(torch.logical_xor),
    "Max": _variadic(torch.maximum),
    "Min": _variadic(torch.minimum),
    "Sum": _variadic(torch.add),
    "BiasGelu": bias_gelu,
    "Cast": cast,
    "CastLike": lambda a, x, like: x.to(like.dtype),
    "Celu": lambda a, x: F.celu(x, a.number("alpha", 1.0)),
    "Clip": clip,
    "Div": divide,
    "Dropout": lambda a, x, *_: (x, torch.ones_like(x, dtype=torch.bool)),
    "Elu": lambda a, x: F.elu(x, a.number("alpha", 1.0)),
    "FastGelu": fast_gelu,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "IsInf": is_infinite,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.number("alpha", 0.01)),
    "LogSoftmax": log_softmax,
    "Mean": mean,
    "Mod": modulo,
    "PRelu": prelu,
    "Pow": power,
    "QuickGelu": quick_gelu,
    "Selu": selu,
    "Softmax": softmax,
    "Swish": swish,
    "ThresholdedRelu": lambda a, x: torch.where(x > a.number("alpha", 1.0), x, 0.0),
    "Where": lambda a, condition, x, y: torch.where(condition, x, y),
}
