"""The activation functions that recurrent operators name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax

from lwc.backends.tvm.lowering.expressions import like

Activation = Callable[[relax.Expr], relax.Expr]


@dataclass(frozen=True)
class _Named:
    """alpha, beta: defaults; None where the function has no such parameter."""

    apply: Callable[[relax.Expr, float, float], relax.Expr]
    alpha: float | None = None
    beta: float | None = None


def _times(x: relax.Expr, factor: float) -> relax.Expr:
    return relax.op.multiply(x, like(factor, x))


def _affine(x: relax.Expr, alpha: float, beta: float) -> relax.Expr:
    return relax.op.add(_times(x, alpha), like(beta, x))


def _thresholded(x: relax.Expr, alpha: float, beta: float) -> relax.Expr:
    return relax.op.where(relax.op.greater(x, like(alpha, x)), x, like(0.0, x))


def _elu(x: relax.Expr, alpha: float, beta: float) -> relax.Expr:
    negative = _times(relax.op.subtract(relax.op.exp(x), like(1.0, x)), alpha)
    return relax.op.where(relax.op.less(x, like(0.0, x)), negative, x)


def _softsign(x: relax.Expr, alpha: float, beta: float) -> relax.Expr:
    return relax.op.divide(x, relax.op.add(like(1.0, x), relax.op.abs(x)))


_FUNCTIONS: Mapping[str, _Named] = {
    "affine": _Named(_affine, 1.0, 0.0),
    "elu": _Named(_elu, 1.0),
    "hardsigmoid": _Named(lambda x, a, b: relax.op.clip(_affine(x, a, b), 0, 1), 0.2, 0.5),
    "leakyrelu": _Named(lambda x, a, b: relax.op.where(relax.op.less(x, like(0, x)), _times(x, a), x), 0.01),
    "relu": _Named(lambda x, a, b: relax.op.nn.relu(x)),
    "scaledtanh": _Named(lambda x, a, b: relax.op.multiply(relax.op.tanh(_times(x, b)), like(a, x)), 1.0, 1.0),
    "sigmoid": _Named(lambda x, a, b: relax.op.sigmoid(x)),
    "softplus": _Named(lambda x, a, b: relax.op.nn.softplus(x)),
    "softsign": _Named(_softsign),
    "tanh": _Named(lambda x, a, b: relax.op.tanh(x)),
    "thresholdedrelu": _Named(_thresholded, 1.0),
}


def activations_of(attrs: Mapping[str, Any], default: Sequence[str]) -> list[Activation]:
    """One function for each name in `activations`; alphas and betas are given to those that take one, in order."""
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in attrs.get("activations") or default]
    alphas, betas = iter(attrs.get("activation_alpha", ())), iter(attrs.get("activation_beta", ()))
    return [_bound(_FUNCTIONS[name.lower()], alphas, betas) for name in names]


def _bound(named: _Named, alphas: Any, betas: Any) -> Activation:
    alpha = 0.0 if named.alpha is None else next(alphas, named.alpha)
    beta = 0.0 if named.beta is None else next(betas, named.beta)
    return lambda x: named.apply(x, alpha, beta)
