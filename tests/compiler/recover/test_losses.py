"""Distances between answers."""

import pytest

torch = pytest.importorskip("torch")

from lwc.compiler.recover.losses import Distance  # noqa: E402

SCORES = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
VALUES = torch.tensor([[1.0, -1.0], [3.0, 5.0]])


def test_equal_answers_are_at_no_distance() -> None:
    want = {"scores": SCORES, "values": VALUES}
    assert float(Distance([want], ["scores"])(want, want)) == pytest.approx(0.0, abs=1e-7)


def test_scores_may_be_shifted_and_values_may_not() -> None:
    want = {"a": SCORES}
    moved = {"a": SCORES + 5.0}
    assert float(Distance([want], ["a"])(moved, want)) == pytest.approx(0.0, abs=1e-6)
    assert float(Distance([want])(moved, want)) > 1.0


def test_probabilities_are_compared_like_their_scores() -> None:
    want, got = torch.softmax(SCORES, -1), torch.softmax(SCORES.flip(0), -1)
    by_scores = Distance([{"a": SCORES}], ["a"])({"a": SCORES.flip(0)}, {"a": SCORES})
    by_shares = Distance([{"a": want}], ["a"])({"a": got}, {"a": want})
    assert float(by_shares) == pytest.approx(float(by_scores), rel=1e-5)


def test_errors_of_values_are_relative_to_their_power() -> None:
    for factor in (1.0, 1000.0):
        want = {"a": factor * VALUES}
        assert float(Distance([want])({"a": want["a"].mean().expand(2, 2)}, want)) == pytest.approx(1.0)


def test_whole_numbers_are_not_compared() -> None:
    assert Distance([{"i": torch.tensor([1, 2]), "a": VALUES}]).names == ["a"]


def test_what_the_teacher_leaves_infinite_does_not_count() -> None:
    want = {"a": torch.tensor([1.0, float("inf"), 3.0])}
    got = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    distance = Distance([want])({"a": got}, want)
    distance.backward()
    assert float(distance.detach()) == 0.0
    assert torch.isfinite(got.grad).all()
