import pytest

from lwc.compiler.core.plan import DynamicInt8, Float, Float16, Plan, Range, Site, StaticInt8, Weight4, Weight8
from lwc.compiler.search.space import Crossing, Interaction, Option, Space, crossing_ms, plan_of

A, B, C = (Site(name, "Conv") for name in "abc")
CHOICES = (Float(), StaticInt8(), DynamicInt8(), Weight8(), Weight4(), Float16())


def paid(made: object, *read: object, as_float: bool = False) -> float:
    """Quantizing costs 1, dequantizing 10, each cast 100."""
    crossing = Crossing("v", A, (B, C)[: len(read)], as_float, 1.0, 10.0, {"float16": 100.0})
    picked = dict(zip((A, B, C), (made, *read), strict=False))
    return crossing_ms(crossing, {site: Option(choice, 0.0, 0, 0.0) for site, choice in picked.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", [Float(), DynamicInt8(), Weight8(), Weight4()])
def test_weight_only_and_dynamic_choices_read_and_write_float(choice: object) -> None:
    assert paid(choice, Float(), as_float=True) == 0.0
    assert paid(StaticInt8(), choice) == 10.0
    assert paid(choice, StaticInt8()) == 1.0


def test_each_format_is_entered_once_and_left_once() -> None:
    assert paid(Float(), StaticInt8(), StaticInt8()) == 1.0
    assert paid(Float(), StaticInt8(), Float16()) == 101.0
    assert paid(StaticInt8(), Float(), Float()) == 10.0
    assert paid(Float16(), Float(), as_float=True) == 100.0


def test_between_two_formats_a_value_passes_through_float() -> None:
    assert paid(StaticInt8(), Float16()) == 110.0
    assert paid(Float16(), StaticInt8()) == 101.0


def test_equal_formats_exchange_values_for_free() -> None:
    assert paid(StaticInt8(), StaticInt8()) == paid(Float16(), Float16()) == 0.0
    assert paid(StaticInt8(), StaticInt8(), as_float=True) == 10.0


def test_an_input_of_the_graph_is_float() -> None:
    crossing = Crossing("x", None, (A,), False, 1.0, 10.0, {"float16": 100.0})
    assert crossing_ms(crossing, {A: Option(StaticInt8(), 0.0, 0, 0.0)}) == 1.0


def test_sums_count_every_site() -> None:
    space = Space({site: (Option(Float(), 1.0, 4, 0.0), Option(Weight4(), 2.0, 1, 0.5)) for site in (A, B)})
    choices = space.complete({B: Weight4()})
    assert choices == {A: Float(), B: Weight4()}
    assert (space.predicted_ms(choices), space.predicted_bytes(choices), space.predicted_loss(choices)) == (3.0, 5, 0.5)


def test_a_plan_leaves_float_sites_out_and_needs_no_ranges_without_choices() -> None:
    ranges = {"x": Range(0.0, 1.0)}
    assert plan_of({B: Weight4(), A: Float()}, ranges) == Plan({B: Weight4()}, ranges)
    assert plan_of({A: Float()}, ranges) == Plan()


def test_pairs_are_off_the_sum_where_both_choices_are_picked() -> None:
    options = {site: (Option(Float(), 1.0, 4, 0.0), Option(Weight4(), 2.0, 1, 0.5)) for site in (A, B, C)}
    space = Space(options, (), (Interaction((A, Weight4()), (B, Weight4()), -0.25),))
    assert space.predicted_loss({A: Weight4(), B: Weight4(), C: Weight4()}) == 1.25
    assert space.predicted_loss({A: Weight4(), B: Float(), C: Weight4()}) == 1.0
