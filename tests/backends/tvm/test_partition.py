import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from lwc.backends.tvm.partition import Region, partition

CASES = [(seed, 2 + seed % 6, seed % 3) for seed in range(60)]


def graph(seed: int, count: int, density: int) -> tuple[list[set[int]], set[int]]:
    """A random graph of nodes in topological order, and which of them are refused."""
    rng = random.Random(seed)
    before = [{k for k in range(node) if rng.random() < (0.2, 0.4, 0.7)[density]} for node in range(count)]
    return before, {node for node in range(count) if rng.random() < 0.4}


def runs_in_order(before: Sequence[set[int]], regions: Sequence[Region]) -> bool:
    place = {node: k for k, region in enumerate(regions) for node in region.nodes}
    return all(place[other] <= place[node] for node, needed in enumerate(before) for other in needed)


def all_partitions(nodes: Sequence[int]) -> Iterator[list[list[int]]]:
    if not nodes:
        yield []
        return
    first, *rest = nodes
    for parts in all_partitions(rest):
        yield [[first], *parts]
        for k, part in enumerate(parts):
            yield [*parts[:k], [first, *part], *parts[k + 1 :]]


def is_acyclic(before: Sequence[set[int]], parts: Sequence[Sequence[int]]) -> bool:
    place = {node: k for k, part in enumerate(parts) for node in part}
    needs = [{place[o] for node in part for o in before[node]} - {k} for k, part in enumerate(parts)]
    done: set[int] = set()
    while ready := {k for k in range(len(parts)) if k not in done and needs[k] <= done}:
        done |= ready
    return len(done) == len(parts)


def fewest(before: Sequence[set[int]], refused: set[int]) -> int:
    """Of all partitions into parts of one kind that can run one after the other, by trying all."""
    return min(
        len(parts)
        for parts in all_partitions(range(len(before)))
        if all(len({node in refused for node in part}) == 1 for part in parts) and is_acyclic(before, parts)
    )


@pytest.mark.parametrize(("seed", "count", "density"), CASES)
def test_regions_cover_all_nodes_once_run_in_order_and_hold_one_kind(seed: int, count: int, density: int) -> None:
    before, refused = graph(seed, count, density)
    regions = partition(before, refused)
    assert sorted(itertools.chain.from_iterable(region.nodes for region in regions)) == list(range(count))
    assert runs_in_order(before, regions)
    assert all(region.taken == (node not in refused) for region in regions for node in region.nodes)


@pytest.mark.parametrize(("seed", "count", "density"), CASES)
def test_no_other_partition_has_fewer_regions(seed: int, count: int, density: int) -> None:
    before, refused = graph(seed, count, density)
    assert len(partition(before, refused)) == fewest(before, refused)


def test_a_path_through_a_refused_node_never_comes_back_into_its_region() -> None:
    regions = partition([set(), {0}, {0, 1}], {1})
    assert regions == [Region((0,), True), Region((1,), False), Region((2,), True)]


def test_branches_that_need_nothing_of_each_other_share_a_region() -> None:
    assert partition([set(), set(), {0}, {1}], {2, 3}) == [Region((0, 1), True), Region((2, 3), False)]


def test_a_region_of_little_work_is_given_away() -> None:
    before = [set(), {0}, {1}, {2}, {3}]
    assert partition(before, {1, 3}, [9.0, 9.0, 1.0, 9.0, 9.0], 5.0) == [
        Region((0,), True), Region((1, 2, 3), False), Region((4,), True)
    ]  # fmt: skip


def test_a_model_that_is_taken_as_a_whole_stays_however_little_it_does() -> None:
    assert partition([set(), {0}], set(), [1.0, 1.0], 5.0) == [Region((0, 1), True)]


def test_a_graph_without_nodes_has_no_regions() -> None:
    assert partition([], set()) == []
