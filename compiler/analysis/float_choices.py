"""Which short float formats are worth offering: the hardware multiplies in them, and the runtime lets it.

    fp16    CUDA; CPUs with AVX512-FP16                      bf16    CUDA sm_80 on; CPUs with AVX512-BF16, AMX, Arm BF16
    fp8     CUDA sm_89 on

A runtime that computes through casts to float32 is slower in a short format than without (ONNX Runtime on x86), so a
format counts only where kernels take it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from lwc.compiler.core.plan import BFloat16, Choice, Float8, Float16
from lwc.compiler.core.target import Target

# Device -> names of the choices that ONNX Runtime (1.31) has kernels for. Its CUDA provider rounds to fp8 and back
# (QuantizeLinear, DequantizeLinear) and multiplies in float32 between them; its CPU provider casts.
ONNX_RUNTIME: Mapping[str, frozenset[str]] = {
    "cpu": frozenset(),
    "cuda": frozenset({Float16.name, BFloat16.name}),
}

_FEATURES: Mapping[str, frozenset[str]] = {
    Float16.name: frozenset({"avx512_fp16"}),
    BFloat16.name: frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
}
_COMPUTE_CAPABILITY: Mapping[str, int] = {Float16.name: 0, BFloat16.name: 80, Float8.name: 89}
_ARCH = re.compile(r"sm_(\d+)")


def float_choices(target: Target, executed: Collection[str]) -> tuple[Choice, ...]:
    """The float formats that are faster than float32 on the target.

    executed: names of the choices that the backend has kernels for on this device, such as ONNX_RUNTIME[device]
    """
    choices: tuple[Choice, ...] = (Float16(), BFloat16(), Float8())
    return tuple(choice for choice in choices if choice.name in executed and _multiplies(target, choice.name))


def _multiplies(target: Target, name: str) -> bool:
    """Whether the hardware has products in this format. A GPU of unknown generation counts as an old one."""
    if target.device == "cuda":
        found = _ARCH.match(target.arch)
        return (int(found[1]) if found else 0) >= _COMPUTE_CAPABILITY[name]
    return bool(target.features & _FEATURES.get(name, frozenset()))
