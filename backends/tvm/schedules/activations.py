"""The activation functions that recurrent operators name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tvm import tirx

Activation = Callable[[tirx.Expr], tirx.Expr]


@dataclass(frozen=True)
class Named:
    """alpha, beta: defaults; None where the function has no such parameter."""

    apply: Callable[[tirx.Expr, float, float], tirx.Expr]
    alpha: float | None = None
    beta: float | None = None


def number(value: float, like: tirx.Expr) -> tirx.Expr:
    """A constant of an expression's type."""
    return tirx.const(value, str(like.ty.dtype))


def _affine(x: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    return x * number(alpha, x) + number(beta, x)


def _hard_sigmoid(x: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    return tirx.max(number(0, x), tirx.min(number(1, x), _affine(x, alpha, beta)))


def _elu(x: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    return tirx.Select(x < number(0, x), (tirx.exp(x) - number(1, x)) * number(alpha, x), x)


def _leaky_relu(x: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    return tirx.Select(x < number(0, x), x * number(alpha, x), x)


def _thresholded(x: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    return tirx.Select(x > number(alpha, x), x, number(0, x))


def _softplus(x: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    small = tirx.exp(number(0, x) - tirx.abs(x))  # at most 1: no overflow
    return tirx.max(x, number(0, x)) + tirx.log(number(1, x) + small)


FUNCTIONS: Mapping[str, Named] = {
    "affine": Named(_affine, 1.0, 0.0),
    "elu": Named(_elu, 1.0),
    "hardsigmoid": Named(_hard_sigmoid, 0.2, 0.5),
    "leakyrelu": Named(_leaky_relu, 0.01),
    "relu": Named(lambda x, a, b: tirx.max(x, number(0, x))),
    "scaledtanh": Named(lambda x, a, b: tirx.tanh(x * number(b, x)) * number(a, x), 1.0, 1.0),
    "sigmoid": Named(lambda x, a, b: tirx.sigmoid(x)),
    "softplus": Named(_softplus),
    "softsign": Named(lambda x, a, b: x / (number(1, x) + tirx.abs(x))),
    "tanh": Named(lambda x, a, b: tirx.tanh(x)),
    "thresholdedrelu": Named(_thresholded, 1.0),
}
