"""ONNX Runtime as it runs in turns with TVM, for what TVM does not take."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lwc import backends
from lwc.compiler.core.backend import Backend


@runtime_checkable
class TakesTurns(Protocol):
    """A backend whose sessions can leave the cores to another runtime as soon as a run ends."""

    def in_turns(self) -> Backend:
        """The backend that opens such sessions."""
        ...


def reference(in_turns: bool = True) -> Backend:
    """ONNX Runtime, its threads asleep between runs: for as long as they look for the next one, TVM's wait for cores.

    in_turns: false where TVM runs nothing: waking its threads for each run takes time
    Raises MissingDependency.
    """
    found = backends.get(backends.REFERENCE)
    return found.in_turns() if in_turns and isinstance(found, TakesTurns) else found
