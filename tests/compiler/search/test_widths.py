import numpy as np
import pytest

from lwc.compiler.analysis.channels import Group, Slot
from lwc.compiler.core.plan import Site
from lwc.compiler.search.widths import step_of, width_at, widths_of


def group(size: int, span: int = 1, heads: bool = False) -> Group:
    slot = Slot("n", 1, "w", 0, np.arange(size * span).reshape(size, span))
    return Group(Site("n", "Conv", "channels"), size, (slot,), (slot,), (), (), True, heads)


@pytest.mark.parametrize(
    ("size", "span", "alignment", "widths"),
    [
        (64, 1, 16, (48, 32, 16)),
        (48, 1, 16, (32, 16)),
        (96, 1, 16, (80, 64, 48, 32, 16)),
        (64, 4, 16, (56, 48, 40, 32, 24, 16, 8)),
        (24, 4, 16, (20, 16, 12, 8, 4)),
        (10, 1, 16, (9, 8, 6, 5, 4, 2, 1)),
        (2, 1, 8, (1,)),
    ],
)
def test_every_axis_stays_a_multiple_of_the_alignment(
    size: int, span: int, alignment: int, widths: tuple[int, ...]
) -> None:
    assert widths_of(group(size, span), alignment) == widths


def test_any_number_of_heads_may_stay() -> None:
    assert widths_of(group(4, 24, heads=True), 16) == (3, 2, 1)
    assert step_of(group(12, 20, heads=True), 16) == 1


def test_spans_of_several_weights_are_all_kept_aligned() -> None:
    first, second = group(32, 4).producers[0], group(32, 6).producers[0]
    both = Group(Site("n", "Conv", "channels"), 32, (), (first,), (second,), (), True, False)
    assert step_of(both, 16) == 8  # 8 x 4 = 32, 8 x 6 = 48


def test_at_least_one_step_and_at_most_the_whole_stays() -> None:
    assert width_at(group(64), 0.01, 16) == 16
    assert width_at(group(64), 0.99, 16) == 64
    assert width_at(group(5), 0.01, 16) == 1
