"""What machine code needs of the processor that is to run it: said where it is kept, asked before it is loaded.

Code for instructions that a processor lacks ends the process without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lwc.backends.tvm.environment import tiles_allowed
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.toolchain import is_native
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.target import host

_AVX2 = ("avx2", "fma")
_AVX512 = (*_AVX2, "avx512f")
_FLAGS = {
    "haswell": _AVX2,
    "skylake-avx512": _AVX512,
    "cascadelake": (*_AVX512, "avx512_vnni"),
    "sapphirerapids": (*_AVX512, "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
}


@dataclass(frozen=True)
class Processor:
    """triple: 'aarch64-linux-gnu';  flags: instruction sets, as Linux names them"""

    triple: str
    flags: tuple[str, ...]

    @staticmethod
    def of(machine: Machine) -> Processor:
        """What the code that is generated for a machine may use."""
        dot = ("asimddp",) if machine.dot_int8 == "sdot" else ()
        return Processor(machine.triple, _FLAGS.get(machine.mcpu, ()) + dot)

    def check(self, name: str) -> None:
        """Raise BadInput, naming what is lacking, where this machine cannot run the code `name`."""
        if not is_native(self.triple):
            raise BadInput(f"{name} is compiled for {self.triple}; this machine is another.", _HINT)
        lacking = _lacking(self.flags)
        if lacking:
            raise BadInput(f"{name} is compiled for a processor with {', '.join(lacking)}; this one lacks it.", _HINT)


_HINT = "Compile it for this machine."


def _lacking(flags: Sequence[str]) -> list[str]:
    tiles = any(flag.startswith("amx_") for flag in flags)
    present = host().features
    return [flag for flag in flags if flag not in present] or (["amx_tile"] if tiles and not tiles_allowed() else [])
