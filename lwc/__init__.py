"""lwc, the layer-wise compiler: an ONNX model in, the fastest or smallest deployable within budget out.

Names are imported when they are first used, so that `import lwc` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lwc._version import __version__

if TYPE_CHECKING:
    from lwc.compiler.api import compile, load
    from lwc.compiler.core.artifact import Artifact
    from lwc.compiler.core.errors import LwcError
    from lwc.compiler.core.model import Model
    from lwc.compiler.merging.merge import merge
    from lwc.compiler.verify import verify

__all__ = ["Artifact", "LwcError", "Model", "__version__", "compile", "load", "merge", "verify"]

_HOME_OF = {
    "Artifact": "lwc.compiler.core.artifact",
    "LwcError": "lwc.compiler.core.errors",
    "Model": "lwc.compiler.core.model",
    "compile": "lwc.compiler.api",
    "load": "lwc.compiler.api",
    "merge": "lwc.compiler.merging.merge",
    "verify": "lwc.compiler.verify",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'lwc' has no attribute '{name}'")
    found: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
