"""The runtime for another processor: TVM's libraries out of the wheels made for it, and the runner, cross-compiled.

runtime/lwc-run  runtime/libtvm_runtime.so  runtime/libtvm_ffi.so      all that most models need besides libstdc++
runtime/libtvm_runtime_extra.so                                        what TVM sorts with; loaded when it is there

The wheels come from Python's registry, once: what is bundled is kept in the user's cache.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from lwc.backends.tvm.toolchain import Toolchain, find_toolchain
from lwc.compiler.core.errors import MissingDependency
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.options import user_cache_folder

FOLDER = "runtime"
RUNNER = "lwc-run"
SOURCES = Path(__file__).parent / "runner"
LIBRARIES = {
    "apache-tvm": ("tvm/lib/libtvm_runtime.so", "tvm/lib/libtvm_runtime_extra.so"),
    "apache-tvm-ffi": ("tvm_ffi/lib/libtvm_ffi.so",),
}


def bundle(folder: Path, target: str) -> tuple[str, ...]:
    """Put the runtime for a triple, as 'aarch64-linux-gnu', into `folder`; returns the names of the files in it.

    Raises MissingDependency when there is no compiler for it, or the wheels cannot be had.
    """
    toolchain = find_toolchain(target)
    kept = user_cache_folder() / f"tvm-runtime-{target}-{_version(toolchain)}"
    if not kept.is_dir():
        _make(kept, toolchain)
    shutil.copytree(kept, folder / FOLDER)
    return tuple(f"{FOLDER}/{path.name}" for path in sorted(kept.iterdir()))


def build_runner(toolchain: Toolchain, libraries: Path, output: Path) -> None:
    """Compile and link the runner against the two libraries in a folder; it finds them beside itself."""
    include = importlib.metadata.distribution("apache-tvm-ffi").locate_file("tvm_ffi/include")
    toolchain.run([
        "-std=c++17", "-O2", "-DNDEBUG", "-s", "-isystem", str(include), *map(str, sorted(SOURCES.glob("*.cc"))),
        f"-L{libraries}", "-Wl,--no-as-needed", "-ltvm_runtime", "-ltvm_ffi", "-Wl,--as-needed", "-ldl",
        "-Wl,-rpath,$ORIGIN", "-o", str(output),
    ])  # fmt: skip


def _make(kept: Path, toolchain: Toolchain) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder("runtime", beside=kept.parent) as temporary:
        made = Path(temporary) / FOLDER
        made.mkdir()
        for package, members in LIBRARIES.items():
            _extract(package, members, toolchain.target, made)
        build_runner(toolchain, made, made / RUNNER)
        if not kept.is_dir():
            made.rename(kept)


def _extract(package: str, members: Sequence[str], target: str, folder: Path) -> None:
    """Libraries out of the wheel of the installed version for that processor."""
    version = importlib.metadata.version(package)
    platform = f"manylinux_2_28_{target.split('-')[0]}"
    with temporary_folder("wheel") as temporary:
        done = subprocess.run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                "--only-binary=:all:", "--platform", platform, "--dest", temporary, f"{package}=={version}",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise MissingDependency(
                f"{package} {version} for {platform} cannot be had ({done.stderr.strip().splitlines()[-1]}).",
                "It holds the runtime for that processor; pip fetches it once.",
            )
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
            for member in members:
                library = folder / Path(member).name
                library.write_bytes(wheel.read(member))
                library.chmod(0o755)


def _version(toolchain: Toolchain) -> str:
    """Of all that goes into the bundle: the runner's sources, the packages, the compiler."""
    digest = blake2b(" ".join(toolchain.command).encode(), digest_size=6)
    for package, members in LIBRARIES.items():
        digest.update(" ".join(members).encode())
        digest.update(importlib.metadata.version(package).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()
