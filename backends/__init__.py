"""The runtimes candidates are built for: a table of names, each imported when it is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec

from lwc.compiler.core.backend import Backend
from lwc.compiler.core.errors import MissingDependency, UsageError


@dataclass(frozen=True)
class Entry:
    """place: 'module:Class';  needs: the module that must be importable;  extra: what pip installs it

    stands_in: name of the backend it is for when that one refuses a model; it is no choice of its own
    """

    place: str
    needs: str
    extra: str
    stands_in: str = ""


TABLE: dict[str, Entry] = {
    "onnxruntime": Entry("lwc.backends.onnxruntime.build:OnnxRuntime", "onnxruntime", "cpu"),
    "openvino": Entry("lwc.backends.openvino.build:OpenVino", "openvino", "openvino"),
    "tvm": Entry("lwc.backends.tvm.build:Tvm", "tvm", "tvm"),
    "hybrid": Entry("lwc.backends.tvm.hybrid:Hybrid", "tvm", "tvm", stands_in="tvm"),
}

REFERENCE = "onnxruntime"  # what the input model runs on when speed-ups are measured

ALIASES: dict[str, str] = {"ort": "onnxruntime"}


def get(name: str) -> Backend:
    """The backend of that name or alias. Raises UsageError, or MissingDependency with the line that installs it."""
    entry = TABLE.get(ALIASES.get(name, name))
    if entry is None:
        known = ", ".join((*(known for known, each in TABLE.items() if not each.stands_in), *ALIASES))
        raise UsageError(f"Unknown backend '{name}'.", f"Known backends: {known}.")
    module, _, attribute = entry.place.partition(":")
    try:
        backend: Backend = getattr(importlib.import_module(module), attribute)()
    except ImportError as error:
        raise MissingDependency(
            f"Backend '{name}' needs the package '{entry.needs}', which cannot be imported ({error}).",
            install_hint(entry),
        ) from error
    return backend


def available() -> tuple[str, ...]:
    """Names of the backends to choose from whose package is installed here; nothing is imported."""
    return tuple(name for name, entry in TABLE.items() if not entry.stands_in and find_spec(entry.needs) is not None)


def stand_in(name: str) -> Backend | None:
    """What takes models that the backend of this name refuses. Raises what `get` raises."""
    return next((get(other) for other, entry in TABLE.items() if entry.stands_in == name), None)


def install_hint(entry: Entry) -> str:
    """The sentence that tells how to get a backend."""
    return f"Try: pip install 'lwc-compiler[{entry.extra}]'"
