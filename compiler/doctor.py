"""What works on this machine, and how to get the rest."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import psutil

from lwc import backends
from lwc._version import __version__
from lwc.compiler.core.backend import BuildOptions
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.options import user_cache_folder

PROBE_OPSET = 13  # old enough for every runtime lwc supports
# Optional packages: distribution -> (extra that installs it, what needs it)
OPTIONAL = {
    "netron": ("view", "lwc view"),
    "scikit-learn": ("zoo", "lwc demo and the digits models"),
    "pillow": ("zoo", "tasks that draw images"),
}


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis. state: 'ok', 'missing' or 'broken';  hint: the next step, may be empty."""

    name: str
    state: str
    detail: str
    hint: str = ""


def doctor() -> list[Check]:
    """Look at the machine, run a tiny model on every backend, look for optional packages and the cache."""
    names = [name for name, entry in backends.TABLE.items() if not entry.stands_in]
    return [*_machine(), *(_backend(name) for name in names), *_packages(), _cache(user_cache_folder())]


def _machine() -> Iterator[Check]:
    target = host()
    memory = psutil.virtual_memory()
    features = " ".join(sorted(target.features)) or "none of interest"
    yield Check("lwc", "ok", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    yield Check("processor", "ok", f"{target.processor or target.arch}, {target.threads} usable cores ({features})")
    yield Check("memory", "ok", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free")


def _backend(name: str) -> Check:
    entry = backends.TABLE[name]
    label = f"backend {name}"
    if name not in backends.available():
        return Check(label, "missing", f"package '{entry.needs}' is not installed", backends.install_hint(entry))
    try:
        backend = backends.get(name)
        with tempfile.TemporaryDirectory() as folder:
            backend.build(_probe(), host(), BuildOptions(Path(folder)))
            result = backend.load(Path(folder), host()).run({"x": np.ones(2, np.float32)})
    except LwcError as error:
        return Check(label, "broken", error.message, error.hint or backends.install_hint(entry))
    works = bool(np.array_equal(result["y"], np.full(2, 2, np.float32)))
    return Check(label, "ok" if works else "broken", backend.version() if works else "1 + 1 was not 2")


def _probe() -> Model:
    """y = x + x, [2] float32."""
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "probe", ports[:1], ports[1:])
    opset = onnx.helper.make_opsetid("", PROBE_OPSET)
    return Model.from_proto(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), "probe")


def _packages() -> Iterator[Check]:
    for name, (extra, purpose) in OPTIONAL.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, "missing", f"needed for {purpose}", f"Run: pip install 'lwc-compiler[{extra}]'")
        else:
            yield Check(name, "ok", f"{version}, for {purpose}")


def _cache(folder: Path) -> Check:
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if os.access(nearest, os.W_OK):
        return Check("cache", "ok", str(folder))
    return Check("cache", "broken", f"'{folder}' cannot be written to", "Give --cache another folder, or --no-cache.")
