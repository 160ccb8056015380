"""Cycles in a graph of what needs what."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def find_cycle(needs: Mapping[K, Set[K]]) -> K | None:
    """A member of some cycle, None when there is none. O(members + edges), without recursion.

    Members that need nothing unfinished are taken away, again and again (Kahn 1962); from one that remains, every
    step to something it needs stays among those that remain, so some member comes up twice.
    """
    pending = {key: len(needed & needs.keys()) for key, needed in needs.items()}
    users: dict[K, list[K]] = {}
    for key, needed in needs.items():
        for other in needed:
            users.setdefault(other, []).append(key)
    free = [key for key, count in pending.items() if count == 0]
    while free:
        done = free.pop()
        del pending[done]
        for user in users.get(done, ()):
            pending[user] -= 1
            if pending[user] == 0:
                free.append(user)
    if not pending:
        return None
    passed: set[K] = set()
    member = next(iter(pending))
    while member not in passed:
        passed.add(member)
        member = next(other for other in needs[member] if other in pending)
    return member
