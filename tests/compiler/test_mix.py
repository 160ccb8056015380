from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lwc.compiler.mix import MOST_SHAPES, MOST_TIMED, frequent_shapes, mixed, reach


def sample(length: int) -> dict[str, Any]:
    return {"x": np.zeros((1, length)), "label": np.zeros(length)}


def lengths(shapes: Any) -> list[int]:
    return [each["x"][1] for each in shapes]


def test_shapes_come_by_count_and_then_by_nearness_to_the_middle() -> None:
    found = frequent_shapes(map(sample, (9, 3, 9, 5, 6)), ["x"], sample(5))
    assert lengths(found) == [9, 5, 6, 3]


def test_no_more_shapes_than_can_be_compiled_for() -> None:
    assert len(frequent_shapes(map(sample, range(1, 99)), ["x"], sample(50))) == MOST_SHAPES


def test_timed_samples_have_the_compiled_shapes_in_proportion() -> None:
    found = [{"x": (1, n)} for n in [7] * 50 + list(range(10, 60))]
    picked = [found[k]["x"][1] for k in mixed(found, [{"x": (1, 7)}])]
    assert len(picked) == MOST_TIMED
    assert picked.count(7) == MOST_TIMED // 2
    assert picked[-1] > 50
    assert min(n for n in picked if n != 7) < 20


def test_few_samples_are_all_timed() -> None:
    assert sorted(mixed([{"x": (1, n)} for n in (5, 4, 3)], [])) == [0, 1, 2]


def test_reach_names_shapes_and_counts_samples_that_have_them() -> None:
    backend: Any = SimpleNamespace(built_for=lambda folder: [{"x": (1, 7)}])
    samples: Any = Samples([sample(7), sample(8), sample(7)])
    assert reach(backend, Path(), samples) == (
        "compiled for the shapes of 2 of 3 held-out samples (x [1, 7]); others run on onnxruntime"
    )
    assert not reach(backend, Path(), Samples([sample(7)]))  # type: ignore[arg-type]
    assert not reach(SimpleNamespace(), Path(), samples)  # type: ignore[arg-type]


class Samples(list[dict[str, Any]]):
    names = ("x",)
