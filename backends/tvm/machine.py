"""What kernels must know of the processor: widths, registers, caches, cores; from the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lwc.backends.tvm.database import tuned_for
from lwc.backends.tvm.environment import tiles_allowed
from lwc.backends.tvm.tuned import UNTUNED, Tuned
from lwc.compiler.core.target import Target

KIB = 1024


@dataclass(frozen=True)
class Machine:
    """A processor as schedules see it.

    mcpu, mattr, triple: for LLVM;  vector_bytes: of one register;  registers: how many of them
    l1_bytes, l2_bytes: of one core;  cores: threads that kernels are spread over
    dot_int8: 'vnni', 'sdot' or '';  tiles: AMX multiplies int8 and bfloat16
    bfloat16: products of float32 may be computed in bfloat16, summed in float32
    tuned: candidates that were measured fastest on it
    """

    triple: str
    mcpu: str
    mattr: tuple[str, ...]
    vector_bytes: int
    registers: int
    l1_bytes: int
    l2_bytes: int
    cores: int
    dot_int8: str = ""
    tiles: bool = False
    bfloat16: bool = False
    tuned: Tuned = UNTUNED

    @property
    def lanes(self) -> int:
        """Floats in a register."""
        return self.vector_bytes // 4

    @property
    def accumulators(self) -> int:
        """Registers that hold sums over a whole reduction; the rest hold what is multiplied."""
        return self.registers - 4

    @staticmethod
    def of(target: Target) -> Machine:
        """The machine of a CPU target."""
        return replace(Machine._bare(target), tuned=tuned_for(target))

    @staticmethod
    def _bare(target: Target) -> Machine:
        if target.arch == "aarch64":
            mattr = ("+neon", "+dotprod") if "asimddp" in target.features else ("+neon",)
            dot = "sdot" if "asimddp" in target.features else ""
            return Machine(
                "aarch64-linux-gnu", "generic", mattr, 16, 32, 32 * KIB, 512 * KIB, target.threads, dot
            )
        features = target.features
        if "avx512f" in features:
            vnni, tiles = "avx512_vnni" in features, {"amx_int8", "amx_bf16"} <= features and tiles_allowed()
            mcpu = "sapphirerapids" if tiles else "cascadelake" if vnni else "skylake-avx512"
            return Machine(
                "x86_64-linux-gnu", mcpu, (), 64, 32, 32 * KIB, 1024 * KIB, target.threads,
                "vnni" if vnni else "", tiles,
            )  # fmt: skip
        mcpu = "haswell" if "avx2" in features else "x86-64"
        width = 32 if "avx2" in features else 16
        return Machine("x86_64-linux-gnu", mcpu, (), width, 16, 32 * KIB, 256 * KIB, target.threads)

    def llvm(self) -> dict[str, Any]:
        """The TVM target, as the dictionary that tvm.target.Target takes."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.mcpu, "num-cores": self.cores}
        return target | ({"mattr": list(self.mattr)} if self.mattr else {})
