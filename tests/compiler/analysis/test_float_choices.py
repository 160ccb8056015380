"""Short floats are offered where hardware and runtime multiply in them, and nowhere else."""

from __future__ import annotations

import platform
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from lwc.backends.onnxruntime.session import create, session_options
from lwc.compiler.analysis.float_choices import ONNX_RUNTIME, float_choices
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.target import NAMED, Target
from lwc.compiler.testing import parse

ALL = ("fp16", "bf16", "fp8")


def names(target: Target, executed: object = ALL) -> list[str]:
    assert isinstance(executed, (tuple, frozenset))
    return [choice.name for choice in float_choices(target, executed)]


@pytest.mark.parametrize(
    ("arch", "offered"),
    [
        ("", ["fp16"]),
        ("sm_75", ["fp16"]),
        ("sm_80", ["fp16", "bf16"]),
        ("sm_86", ["fp16", "bf16"]),
        ("sm_89", ["fp16", "bf16", "fp8"]),
        ("sm_90a", ["fp16", "bf16", "fp8"]),
        ("sm_100", ["fp16", "bf16", "fp8"]),
    ],
)
def test_gpus_offer_what_their_generation_multiplies(arch: str, offered: list[str]) -> None:
    target = Target("gpu", "cuda", arch)
    assert names(target) == offered
    assert names(target, ONNX_RUNTIME["cuda"]) == [name for name in offered if name != "fp8"]


@pytest.mark.parametrize(
    ("features", "offered"),
    [
        ({"avx2", "avx512f"}, []),
        ({"avx512_bf16"}, ["bf16"]),
        ({"amx_bf16", "avx512_fp16"}, ["fp16", "bf16"]),
        ({"bf16", "i8mm"}, ["bf16"]),
    ],
)
def test_cpus_offer_what_their_instructions_multiply(features: set[str], offered: list[str]) -> None:
    assert names(Target("cpu", "cpu", "x86-64", frozenset(features))) == offered


@pytest.mark.parametrize("name", NAMED)
def test_onnx_runtime_offers_no_short_floats_on_cpus(name: str) -> None:
    target = NAMED[name]
    assert names(target, ONNX_RUNTIME[target.device]) == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other CPUs have kernels for fp16")
@pytest.mark.parametrize("short", ["float16", "bfloat16"])
def test_onnx_runtime_on_x86_has_no_products_in_short_floats(short: str, tmp_path: Path) -> None:
    """It multiplies in float32 between casts, or refuses the model."""
    proto = ir.to_proto(parse(f"agraph ({short}[4,4] x) => ({short}[4,4] y) {{ y = MatMul(x, x) }}"))
    options = session_options(NAMED["cpu:x86-64-v4"].with_threads(1))
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    try:
        create(proto.SerializeToString(), options, short)
    except LwcError:
        assert short == "bfloat16"
        return
    assert "Cast" in [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
