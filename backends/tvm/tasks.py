"""What there is to tune in a module: every kernel whose schedule chose among candidates, and how often it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import IRModule

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.pipeline import lower
from lwc.backends.tvm.tuned import Choice, Tuned


@dataclass(frozen=True)
class Task:
    """A kernel.

    signature: what it computes, a frozen dataclass;  candidates: of least estimated cost first
    chosen: the one that is built now;  count: how often it runs in one run of the model, of a function that is called
        from several places once
    """

    signature: Any
    candidates: tuple[Any, ...]
    chosen: Any
    count: int


@dataclass(frozen=True)
class Asked(Tuned):
    """Notes what is looked up."""

    tasks: dict[object, Task] = field(default_factory=dict, compare=False)

    def best(
        self, signature: object, candidates: Iterable[Choice], cost: Callable[[Choice], Any], *, again: bool = False
    ) -> Choice:
        """As Tuned has it."""
        found = sorted(candidates, key=cost)
        chosen = super().best(signature, found, cost)
        if not again:
            known = self.tasks.get(signature)
            count = 1 if known is None else known.count + 1
            self.tasks[signature] = Task(signature, tuple(found), chosen, count)
        return chosen


def find_tasks(mod: IRModule, machine: Machine) -> list[Task]:
    """The kernels of a module that the importer made."""
    asked = Asked(machine.tuned.choices)
    lower(mod, replace(machine, tuned=asked))
    return list(asked.tasks.values())


def joined(tasks: Iterable[Task]) -> list[Task]:
    """Each kernel once, counts added up."""
    found: dict[object, Task] = {}
    for task in tasks:
        known = found.get(task.signature)
        found[task.signature] = task if known is None else replace(known, count=known.count + task.count)
    return list(found.values())
