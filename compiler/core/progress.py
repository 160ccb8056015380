"""How long work tells whoever waits for it: stages, steps and notes. Silent unless somebody listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A listener. One stage is open at a time; opening the next closes it."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Work called `name` begins and takes `total` steps (None: not known)."""
        ...

    def advance(self, n: int = 1) -> None:
        """`n` more steps of the open stage are done."""
        ...

    def note(self, text: str) -> None:
        """Something the user should read, one sentence."""
        ...


class Silent:
    """The listener that ignores everything: the default in Python."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Ignored."""

    def advance(self, n: int = 1) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""
