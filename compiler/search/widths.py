"""How many channels of a group may stay: numbers that the target's kernels do not fall behind with."""

from __future__ import annotations

import math

from lwc.compiler.analysis.channels import Group

SHARES = (7 / 8, 3 / 4, 5 / 8, 1 / 2, 3 / 8, 1 / 4, 1 / 8)  # of the channels, that are tried


def step_of(group: Group, alignment: int) -> int:
    """Channels that leave together, so that every axis they lie on stays a multiple of the alignment.

    A head is a unit of its own; and so is every channel of a group that is smaller than that.
    """
    spans = {slot.positions.shape[1] for slot in (*group.producers, *group.consumers)} or {1}
    step = math.lcm(*(alignment // math.gcd(alignment, span) for span in spans))
    return 1 if group.heads or step >= group.size else step


def width_at(group: Group, share: float, alignment: int) -> int:
    """The width next to this share of the channels, at least one step."""
    step = step_of(group, alignment)
    return min(group.size, max(step, step * round(share * group.size / step)))


def widths_of(group: Group, alignment: int) -> tuple[int, ...]:
    """Widths below the full one, widest first."""
    found = {width_at(group, share, alignment) for share in SHARES}
    return tuple(sorted(found - {group.size}, reverse=True))
