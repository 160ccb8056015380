"""The runtimes candidates are built for: a table of names, each imported when it is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec

from lwc.compiler.core.backend import Backend
from lwc.compiler.core.errors import MissingDependency, UsageError


@dataclass(frozen=True)
class Entry:
    """place: 'module:Class';  needs: the module that must be importable;  extra: what pip installs it"""

    place: str
    needs: str
    extra: str


TABLE: dict[str, Entry] = {
    "onnxruntime": Entry("lwc.backends.onnxruntime.build:OnnxRuntime", "onnxruntime", "cpu"),
    "openvino": Entry("lwc.backends.openvino.build:OpenVino", "openvino", "openvino"),
}

REFERENCE = "onnxruntime"  # what the input model runs on when speed-ups are measured

ALIASES: dict[str, str] = {"ort": "onnxruntime"}


def get(name: str) -> Backend:
    """The backend of that name or alias. Raises UsageError, or MissingDependency with the line that installs it."""
    entry = TABLE.get(ALIASES.get(name, name))
    if entry is None:
        known = ", ".join((*TABLE, *ALIASES))
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
    """Names of the backends whose package is installed here; nothing is imported."""
    return tuple(name for name, entry in TABLE.items() if find_spec(entry.needs) is not None)


def install_hint(entry: Entry) -> str:
    """The sentence that tells how to get a backend."""
    return f"Try: pip install 'lwc-compiler[{entry.extra}]'"
