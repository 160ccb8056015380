"""Which of a kernel's candidates was measured fastest: what schedules look up before they estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any, TypeVar

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Tuned:
    """choices: (what a kernel computes, as the repr of a frozen dataclass; the fields of the fastest candidate)"""

    choices: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @cached_property
    def _of(self) -> dict[str, tuple[Any, ...]]:
        return dict(self.choices)

    def best(
        self, signature: object, candidates: Iterable[Choice], cost: Callable[[Choice], Any], *, again: bool = False
    ) -> Choice:
        """The candidate that was measured fastest; where none was, the first of least cost.

        candidates: dataclasses, at least one;  again: the same kernel asked before, it is not another one
        """
        found = list(candidates)
        known = self._of.get(repr(signature))
        fastest = None if known is None else next((each for each in found if numbers(each) == known), None)
        return min(found, key=cost) if fastest is None else fastest


def numbers(choice: Any) -> tuple[Any, ...]:
    """The fields of a candidate."""
    return astuple(choice)


UNTUNED = Tuned()
