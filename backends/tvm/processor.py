"""What machine code needs of the processor that is to run it: said where it is kept, asked before it is loaded.

Code for instructions that a processor lacks ends the process without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from lwc.backends.tvm.environment import tiles_allowed
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.toolchain import is_native
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.target import Target, host

TILES = frozenset({"amx_int8", "amx_bf16"})
_AVX2 = ("avx2", "fma")
_AVX512 = (*_AVX2, "avx512f")
_FLAGS: dict[str, tuple[str, ...]] = {
    "generic": (),
    "x86-64": (),
    "haswell": _AVX2,
    "skylake-avx512": _AVX512,
    "cascadelake": (*_AVX512, "avx512_vnni"),
    "sapphirerapids": (*_AVX512, "avx512_vnni", "avx512_bf16", "avx512_fp16", *sorted(TILES)),
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
        return Processor(machine.triple, _FLAGS[machine.mcpu] + dot)

    def lacking(self) -> tuple[str, ...]:
        """What this machine lacks to run the code: the architecture, or flags."""
        if not is_native(self.triple):
            return (self.triple,)
        asked = bool(TILES & set(self.flags)) and not tiles_allowed()
        return tuple(flag for flag in self.flags if flag not in host().features or (asked and flag in TILES))

    def check(self, name: str) -> None:
        """Raise BadInput, naming what is lacking, where this machine cannot run the code `name`."""
        lacking = self.lacking()
        if lacking:
            raise BadInput(
                f"{name} is compiled for a processor with {', '.join(lacking)}; this one is another.",
                "Compile it for this machine.",
            )


def standing_in(target: Target) -> Target:
    """The target itself, or, where this machine cannot run code for it, this machine with as many threads.

    Outputs are compared here whatever the target; kernels of both are made by the same rules.
    """
    return host().with_threads(target.threads) if Processor.of(Machine.of(target)).lacking() else target
