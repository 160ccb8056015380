"""Which nodes run together: a graph of nodes, some refused, as the fewest regions that run one after the other.

A region is of one kind, taken or refused. All nodes of a region are at the same number of changes of kind from the
inputs, on the way with the most of them; so a region is convex, regions need each other in one direction only, and
there are as many of them as that way has stretches, which no cut can undercut. It is tried with either kind first.

A region of taken nodes that does so little that handing values over costs more than it may win is given away.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

Predecessors = Sequence[Collection[int]]


@dataclass(frozen=True)
class Region:
    """Nodes by index, ascending. taken: by the runtime that the graph is cut for"""

    nodes: tuple[int, ...]
    taken: bool


def partition(
    before: Predecessors, refused: Collection[int], work: Sequence[float] = (), least: float = 0.0
) -> list[Region]:
    """Regions in the order they run, covering all nodes.

    before: of each node the nodes whose results it reads, all of lower index
    work: what each node takes, in any unit;  least: regions of taken nodes with less are given away, unless there is
    nothing else
    """
    given = set(refused)
    while True:
        regions = _fewest(before, given)
        small = [
            (sum(work[node] for node in region.nodes), k)
            for k, region in enumerate(regions)
            if work and region.taken and len(regions) > 1
        ]
        if not small or min(small)[0] >= least:
            return regions
        given.update(regions[min(small)[1]].nodes)


def _fewest(before: Predecessors, refused: Collection[int]) -> list[Region]:
    return min((_cut(before, refused, taken_first) for taken_first in (True, False)), key=len)


def _cut(before: Predecessors, refused: Collection[int], taken_first: bool) -> list[Region]:
    """Regions by the most changes of kind on any way from the inputs, where the first region is of a given kind."""
    taken = [node not in refused for node in range(len(before))]
    stage: list[int] = []
    for node, needed in enumerate(before):
        own = int(taken[node] != taken_first)
        stage.append(max((stage[other] + (taken[other] != taken[node]) for other in needed), default=own))
    members: dict[int, list[int]] = {}
    for node, place in enumerate(stage):
        members.setdefault(place, []).append(node)
    return [Region(tuple(nodes), taken[nodes[0]]) for _, nodes in sorted(members.items())]
