"""Compilers that link libraries for a processor, this machine's or another, and build the runner.

For this machine: $CXX, c++, g++ or clang++. For another: Debian's cross compilers, as aarch64-linux-gnu-g++. In place
of either: Zig, a package of Python's registry that compiles C++ for all of them.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwc.compiler.core.errors import InternalError, MissingDependency

OLDEST_GLIBC = "2.28"  # of what Zig links; the runtimes in TVM's wheels need no newer one


@dataclass(frozen=True)
class Toolchain:
    """command: a C++ compiler for the triple `target` with what it must always be told"""

    command: tuple[str, ...]
    target: str

    def link(self, executable: Any, library: Path) -> None:
        """Write the code of a VMExecutable as a shared library, without symbols for debuggers."""

        def shared(output: str, objects: Sequence[str], **_: Any) -> None:
            self.run(["-shared", "-fPIC", "-s", "-o", output, *objects])

        executable.export_library(str(library), fcompile=shared)

    def run(self, arguments: Sequence[str]) -> None:
        """Run the compiler. Raises InternalError with what it says."""
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
            raise InternalError(f"{Path(self.command[0]).name} for {self.target} failed: {said}")


def find_toolchain(target: str) -> Toolchain:
    """The first compiler for a triple that is installed. target: 'aarch64-linux-gnu'. Raises MissingDependency."""
    for command in _candidates(target):
        found = shutil.which(command[0])
        if found:
            return Toolchain((found, *command[1:]), target)
    if importlib.util.find_spec("ziglang"):
        return Toolchain((sys.executable, "-m", "ziglang", "c++", "-target", f"{target}.{OLDEST_GLIBC}"), target)
    raise MissingDependency(
        f"No C++ compiler for {target}, which links what TVM compiles.",
        f"Install one: apt-get install {_package(target)}, or pip install 'lwc-compiler[cross]'.",
    )


def is_native(target: str) -> bool:
    """True when this machine runs code for the triple."""
    return target.startswith(f"{platform.machine()}-") and sys.platform == "linux"


def _candidates(target: str) -> list[list[str]]:
    if not is_native(target):
        return [[f"{target}-g++"]]
    own = shlex.split(os.environ.get("CXX", ""))
    return [command for command in (own, ["c++"], ["g++"], ["clang++"]) if command]


def _package(target: str) -> str:
    return "g++" if is_native(target) else f"g++-{target.replace('_', '-')}"
