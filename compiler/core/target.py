"""What the model will run on, and what runs fast there."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from lwc.compiler.core.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


BYTE_OPS = frozenset({"DepthToSpace", "Max", "SpaceToDepth"})


@dataclass(frozen=True)
class Target:
    """A device and what it executes.

    device: 'cpu' or 'cuda';  arch: 'x86-64', 'aarch64', 'sm_90a' ...
    features: instruction sets that decide which formats pay, such as 'avx512_vnni'
    choices: names of the choices this target's runtimes really execute: faster than float, or as fast and smaller
    symmetric_activations: int8 activations with zero point 0 where the kernels want them (aarch64, GPU)
    reduce_range: 7-bit weights, because u8 x s8 sums saturate in 16 bits (x86 without VNNI)
    channel_alignment: channel counts that are not multiples of it run slower
    moves_codes: its runtime makes integer kernels across operators that move values (Transpose, Slice) as codes
    byte_ops: operators without quantized forms that its runtime runs on 8-bit tensors as they are
    bf16_by_hint, fp16_by_hint: its runtime executes the format as a property of the whole compiled model, not by types
        in the graph
    power_of_two_scales: it rescales integers by shifts, so every scale of static int8 is a power of two
    portable: models for it may use operators of the standard ONNX domain alone
    threads: intra-op threads used for running and measuring
    tuned: folder of what kernels were found fastest, for backends that write their own; says nothing of the machine
    """

    name: str
    device: str
    arch: str
    features: frozenset[str] = frozenset()
    choices: tuple[str, ...] = ("float", "int8", "int8-dynamic", "w16", "w8", "w4")
    symmetric_activations: bool = False
    reduce_range: bool = False
    channel_alignment: int = 16
    moves_codes: bool = True
    byte_ops: frozenset[str] = BYTE_OPS
    bf16_by_hint: bool = False
    fp16_by_hint: bool = False
    portable: bool = False
    power_of_two_scales: bool = False
    threads: int = 1
    memory_bytes: int | None = None
    processor: str = ""
    tuned: Path | None = None

    @property
    def fingerprint(self) -> str:
        """Names the machine for caches of measured costs."""
        data = {**asdict(self), "features": sorted(self.features), "byte_ops": sorted(self.byte_ops)}
        del data["tuned"]
        return hashlib.blake2b(repr(sorted(data.items())).encode(), digest_size=8).hexdigest()

    @property
    def is_foreign(self) -> bool:
        """A CPU of another architecture than this machine's: times measured here say nothing of it."""
        return self.device == "cpu" and self.arch != host().arch

    def with_threads(self, threads: int) -> Target:
        return replace(self, threads=threads)


INTERESTING_FEATURES = frozenset(
    {
        "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
        "asimddp", "i8mm", "bf16",
    }
)  # fmt: skip

NAMED: dict[str, Target] = {
    "cpu:x86-64-v3": Target(
        "cpu:x86-64-v3", "cpu", "x86-64", frozenset({"avx2", "fma"}), reduce_range=True, channel_alignment=8
    ),
    "cpu:x86-64-v4": Target(
        "cpu:x86-64-v4", "cpu", "x86-64", frozenset({"avx2", "fma", "avx512f", "avx512_vnni"})
    ),
    "cpu:aarch64": Target(
        "cpu:aarch64",
        "cpu",
        "aarch64",
        frozenset({"asimddp"}),
        symmetric_activations=True,
        channel_alignment=8,
    ),
}


def find_target(name: str) -> Target:
    """The target of that name, or of a TOML file; 'host' describes this machine. Raises UsageError."""
    if name == "host":
        return host()
    if name.endswith(".toml"):
        return read_target(Path(name))
    if name in NAMED:
        return NAMED[name].with_threads(len(_usable_cores()))
    known = ", ".join(("host", *NAMED))
    raise UsageError(f"Unknown target '{name}'.", f"Known targets: {known}.")


def read_target(path: Path) -> Target:
    """A target from a TOML file with the fields of Target; absent ones are those of `base`, a name (default: host).

    Raises UsageError.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The target '{path}' cannot be read ({error}).") from error
    base = find_target(str(data.pop("base", "host")))
    known = {field.name: type(getattr(base, field.name)) for field in fields(Target) if field.name != "tuned"}
    for key, value in data.items():
        if key not in known:
            raise UsageError(f"The target '{path}' has an unknown field '{key}'.", f"Fields: {', '.join(known)}.")
        if isinstance(value, list):
            data[key] = known[key](value)
        elif known[key] not in (type(value), type(None)):
            raise UsageError(f"In the target '{path}', '{key}' must be of type {known[key].__name__}, not {value!r}.")
    return replace(base, **{"name": path.stem, **data})


def host() -> Target:
    """This machine's CPU, from what the kernel says of it."""
    machine = platform.machine().lower()
    features, processor = _cpu_features()
    common = {"features": features, "threads": len(_usable_cores()), "processor": processor}
    if machine in ("x86_64", "amd64"):
        vnni = bool(features & {"avx512_vnni", "avx_vnni", "amx_int8"})
        return Target("host", "cpu", "x86-64", reduce_range=not vnni, **common)  # type: ignore[arg-type]
    return Target("host", "cpu", machine, symmetric_activations=True, channel_alignment=8, **common)  # type: ignore[arg-type]


def _usable_cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[frozenset[str], str]:
    flags: set[str] = set()
    processor = platform.processor()
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
            if key.strip() == "model name":
                processor = value.strip()
            if flags and processor:
                break
    return frozenset(flags & INTERESTING_FEATURES), processor
