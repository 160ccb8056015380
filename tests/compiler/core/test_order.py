"""Cycles are found, and only cycles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lwc.compiler.core.order import find_cycle

GRAPHS = st.dictionaries(st.integers(0, 7), st.sets(st.integers(0, 9), max_size=4), max_size=8)


def reaches_itself(needs: dict[int, set[int]], start: int) -> bool:
    seen: set[int] = set()
    pending = list(needs.get(start, ()))
    while pending:
        member = pending.pop()
        if member not in seen:
            seen.add(member)
            pending += needs.get(member, ())
    return start in seen


@given(GRAPHS)
def test_finds_a_member_of_a_cycle_exactly_when_there_is_one(needs: dict[int, set[int]]) -> None:
    member = find_cycle(needs)
    if member is None:
        assert not any(reaches_itself(needs, start) for start in needs)
    else:
        assert reaches_itself(needs, member)


def test_names_the_cycle_not_what_waits_for_it() -> None:
    assert find_cycle({"late": {"a"}, "a": {"b"}, "b": {"a"}, "early": set()}) in ("a", "b")


def test_a_long_chain_needs_no_recursion() -> None:
    assert find_cycle({k: {k + 1} for k in range(100_000)}) is None
