"""exp, log, tanh, erf and sigmoid of float32 as arithmetic that vectorizes: LLVM calls the C library lane by lane.

Relative errors below 1e-6 (tests), on every input where the result is a normal number. Cephes' range reduction and
polynomials for exp, log and tanh (Moshier 1992), erf by Eigen's rational approximation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tvm_ffi
from tvm import tirx
from tvm.ir import Call

LOG2_E = 1.4426950408889634
# log 2 in two parts: the first has few digits, so that its product with a whole number is exact.
LOG2_HIGH, LOG2_LOW = 0.693359375, -2.12194440e-4
# The least whose result is a normal number; more than the greatest whose result is finite.
EXP_LEAST, EXP_MOST = -87.3365447504, 89.0
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# log(1 + x) = x - x^2 / 2 + x^3 P(x), 1 + x between the roots of 1/2 and 2.
LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
       2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
LEAST_NORMAL, GREATEST = 1.17549435e-38, 3.4028234e38
NAN, MINUS_INFINITY = 0x7FC00000, -0x800000  # their bits
DIGITS = 23  # of a float32, behind the leading one
ROOT_OF_HALF = 0x3F3504F3  # its bits
# tanh x = x + x^3 P(x^2) where exp would lose digits.
TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
TANH_SMALL = 0.625
ERF_MOST = 3.832506856900711
ERF_OVER = (0.00022905065861350646, 0.0034082910107109506, 0.050955695062380861, 0.18520832239976145, 1.128379143519084)
ERF_UNDER = (-1.1791602954361697e-7, 0.000023547966471313185, 0.0010179625278914885, 0.014070470171167667,
             0.11098505178285362, 0.49746925110067538, 1.0)  # fmt: skip


def vector_math(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function with every float32 exp, log, tanh, erf and sigmoid written out."""

    def call(node: Call) -> tirx.Expr:
        rule = RULES.get(getattr(node.op, "name", ""))
        if rule is None or str(node.ty.dtype) != "float32":
            return node
        return _named(node.args[0], rule)

    return func.with_body(tvm_ffi.structural_map(func.body, (Call, call)))


def exp(x: tirx.Expr) -> tirx.Expr:
    """2^n e^r with n = round(x / log 2), |r| < log 2 / 2; 0 and infinity beyond what float32 holds."""

    def scaled(n: tirx.Expr, bounded: tirx.Expr) -> tirx.Expr:
        remainder = bounded - n * _f(LOG2_HIGH) - n * _f(LOG2_LOW)
        grown = _named(remainder, lambda r: _polynomial(r, EXP) * r * r + r + _f(1.0))
        # In two factors: 2^128 is no float32.
        return _named(n.astype("int32"), lambda whole: _named(
            whole >> 1, lambda half: grown * _power_of_two(half) * _power_of_two(whole - half)
        ))  # fmt: skip

    def exponent(bounded: tirx.Expr) -> tirx.Expr:
        return _named(tirx.floor(bounded * _f(LOG2_E) + _f(0.5)), lambda n: scaled(n, bounded))

    return tirx.Select(x < _f(EXP_LEAST), _f(0.0), _named(_clamped(x, EXP_LEAST, EXP_MOST), exponent))


def log(x: tirx.Expr) -> tirx.Expr:
    """log m + e log 2 with x = m 2^e; -infinity of 0, NaN of what is less."""

    def split(m: tirx.Expr, e: tirx.Expr) -> tirx.Expr:
        return _named(m - _f(1.0), lambda r: _polynomial(r, LOG) * r * r * r + e * _f(LOG2_LOW) - _f(0.5) * r * r + r
                      + e * _f(LOG2_HIGH))  # fmt: skip

    def of_normal(normal: tirx.Expr) -> tirx.Expr:
        # Divided by 2^e rather than made of bits, so that NaN stays; in two steps: 2^-128 is no normal number.
        exponent = (tirx.reinterpret("int32", normal) - ROOT_OF_HALF) >> DIGITS
        return _named(exponent, lambda e: _named(e >> 1, lambda half: split(
            normal * _power_of_two(-half) * _power_of_two(half - e), e.astype("float32")
        )))  # fmt: skip

    # A denormal number is read 2^23 times as great.
    small = x < _f(LEAST_NORMAL)
    found = _named(tirx.Select(small, x * _f(2.0**DIGITS), x), of_normal)
    found = found - tirx.Select(small, _f(DIGITS * math.log(2)), _f(0.0))
    nan, least = (tirx.reinterpret("float32", tirx.IntImm("int32", bits)) for bits in (NAN, MINUS_INFINITY))
    not_positive = tirx.Select(x < _f(0.0), nan, least)
    return tirx.Select(x <= _f(0.0), not_positive, tirx.Select(x > _f(GREATEST), x, found))


def sigmoid(x: tirx.Expr) -> tirx.Expr:
    """1 / (1 + e^-x)"""
    return _f(1.0) / (_f(1.0) + _named(_f(0.0) - x, exp))


def tanh(x: tirx.Expr) -> tirx.Expr:
    """1 - 2 / (e^2x + 1), and a polynomial around 0."""
    near = _named(x * x, lambda square: _polynomial(square, TANH) * square * x + x)
    far = _f(1.0) - _f(2.0) / (_named(x * _f(2.0), exp) + _f(1.0))
    return tirx.Select(tirx.abs(x) < _f(TANH_SMALL), near, far)


def erf(x: tirx.Expr) -> tirx.Expr:
    """x P(x^2) / Q(x^2), clamped where float32 says 1."""
    def ratio(z: tirx.Expr) -> tirx.Expr:
        return _named(z * z, lambda square: z * _polynomial(square, ERF_OVER) / _polynomial(square, ERF_UNDER))

    return _named(_clamped(x, -ERF_MOST, ERF_MOST), ratio)


def nearbyint(x: tirx.Expr) -> tirx.Expr:
    """LLVM's: TVM 0.27 takes its own operator apart into scalars where a loop is made of vectors."""
    return tirx.call_llvm_pure_intrin(str(x.ty.dtype), "llvm.nearbyint", x)


RULES: dict[str, Callable[[tirx.Expr], tirx.Expr]] = {
    "tirx.exp": exp,
    "tirx.log": log,
    "tirx.sigmoid": sigmoid,
    "tirx.tanh": tanh,
    "tirx.erf": erf,
    "tirx.nearbyint": nearbyint,
}


def _polynomial(x: tirx.Expr, factors: Sequence[float]) -> tirx.Expr:
    """Horner's rule, the highest power's factor first."""
    value: tirx.Expr = _f(factors[0])
    for factor in factors[1:]:
        value = value * x + _f(factor)
    return value


def _clamped(x: tirx.Expr, least: float, most: float) -> tirx.Expr:
    """Within bounds; NaN stays, which max and min would replace."""
    return tirx.Select(x < _f(least), _f(least), tirx.Select(x > _f(most), _f(most), x))


def _power_of_two(n: tirx.Expr) -> tirx.Expr:
    """2^n, written into the exponent's bits."""
    return tirx.reinterpret("float32", (n + 127) << 23)


def _named(value: tirx.Expr, body: Callable[[tirx.Var], tirx.Expr]) -> tirx.Expr:
    name = tirx.Var("x", value.ty)
    return tirx.Let(name, value, body(name))


def _f(value: float) -> tirx.Expr:
    return tirx.FloatImm("float32", value)
