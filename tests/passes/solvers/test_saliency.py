"""Worth of channels against what readers lose on samples."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.passes.solvers import saliency
from lwc.passes.solvers.saliency import Reader


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def samples(features: int, seed: int = 1) -> np.ndarray:
    mixing = drawn(features, features, seed=seed + 1) * (np.arange(features) + 1.0)[:, None] ** -0.5
    return drawn(300, features, seed=seed) @ mixing + drawn(features, seed=seed + 2)


def read(x: np.ndarray, weight: np.ndarray, positions: np.ndarray, centred: bool = False) -> Reader:
    return Reader.of(weight, positions, x.T @ x / len(x), x.mean(0) if centred else None)


FOUR = np.arange(8).reshape(4, 2)
STRIDED = np.array([[6, 1], [2, 5], [3, 0]])  # columns 4 and 7 are no channel's


@pytest.mark.parametrize("positions", [FOUR, STRIDED], ids=["all columns", "some columns"])
def test_error_is_what_readers_lose_without_one_channel(positions: np.ndarray) -> None:
    pairs = [(samples(8), drawn(5, 8)), (samples(8, seed=7), drawn(3, 8, seed=8))]
    found = saliency.error([read(x, weight, positions) for x, weight in pairs])
    expected = [sum(np.square(x[:, at] @ w[:, at].T).sum(1).mean() for x, w in pairs) for at in positions]
    np.testing.assert_allclose(found, expected)


def test_error_about_the_mean_is_the_variance_that_is_lost() -> None:
    x, weight = samples(8), drawn(5, 8)
    found = saliency.error([read(x, weight, FOUR, centred=True)])
    np.testing.assert_allclose(found, [(x[:, at] @ weight[:, at].T).var(0).sum() for at in FOUR])


def test_interactions_add_up_to_the_loss_of_any_set() -> None:
    x, weight = samples(8), drawn(5, 8)
    pairs = saliency.interactions([read(x, weight, FOUR)])
    chosen = np.array([True, False, True, True])
    columns = FOUR[chosen].reshape(-1)
    assert chosen @ pairs @ chosen == pytest.approx(np.square(x[:, columns] @ weight[:, columns].T).sum(1).mean())


@pytest.mark.parametrize("positions", [FOUR, STRIDED], ids=["all columns", "some columns"])
def test_explained_is_what_least_squares_leaves(positions: np.ndarray) -> None:
    x, weight = samples(8), drawn(5, 8)
    found = saliency.explained([read(x, weight, positions, centred=True)], damping=1e-12)
    for at, score in zip(positions, found, strict=True):
        others = np.column_stack([np.delete(x, at, axis=1), np.ones(len(x))])
        wanted = x[:, at] @ weight[:, at].T
        rest = wanted - others @ np.linalg.lstsq(others, wanted, rcond=None)[0]
        assert score == pytest.approx(np.square(rest).sum(1).mean(), rel=1e-6)


def test_merging_is_what_the_best_pair_leaves() -> None:
    pairs = [(samples(8), drawn(5, 8)), (samples(8, seed=7), drawn(3, 8, seed=8))]
    found = saliency.merging([read(x, weight, FOUR) for x, weight in pairs])
    for c, score in enumerate(found):
        best = np.inf
        for d in set(range(4)) - {c}:
            wanted = np.concatenate([(x[:, FOUR[c]] @ w[:, FOUR[c]].T).reshape(-1) for x, w in pairs])
            likest = np.concatenate([(x[:, FOUR[d]] @ w[:, FOUR[c]].T).reshape(-1) for x, w in pairs])
            a = wanted @ likest / (likest @ likest)
            best = min(best, np.square(wanted - a * likest).sum() / len(pairs[0][0]))
        assert score == pytest.approx(best)


def test_a_copy_of_a_channel_is_worth_nothing_to_merging_and_much_to_error() -> None:
    x, weight = samples(8), drawn(5, 8)
    x[:, FOUR[2]] = 3.0 * x[:, FOUR[0]]
    reader = read(x, weight, FOUR)
    assert saliency.merging([reader])[2] == pytest.approx(0.0, abs=1e-9)
    assert saliency.error([reader])[2] > 1.0


def test_explained_is_least_then_merging_then_error() -> None:
    reader = read(samples(8), drawn(5, 8), FOUR)
    explained, merging, error = (f([reader]) for f in (saliency.explained, saliency.merging, saliency.error))
    assert (explained <= merging * 1.02).all()  # damped
    assert (merging <= error).all()


def test_wanda_and_fluctuation_are_their_papers_formulas() -> None:
    x, weight = samples(8), drawn(5, 8)
    reader = read(x, weight, FOUR, centred=True)
    wanda = (np.abs(weight) * np.sqrt(np.square(x).mean(0))).sum(0)
    flap = np.square(weight).sum(0) * x.var(0)
    np.testing.assert_allclose(saliency.wanda([reader]), wanda.reshape(4, 2).sum(1))
    np.testing.assert_allclose(saliency.fluctuation([reader]), flap.reshape(4, 2).sum(1))


def test_magnitude_counts_all_weights_that_leave() -> None:
    made, read_by = drawn(4, 6), drawn(5, 8)
    found = saliency.magnitude([(made, np.arange(4)[:, None]), (read_by.T, FOUR)])
    expected = [np.square(made[c]).sum() + np.square(read_by[:, FOUR[c]]).sum() for c in range(4)]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("score", [saliency.wanda, saliency.fluctuation, saliency.error, saliency.explained])
def test_a_diagonal_of_moments_is_a_gram_matrix_of_independent_inputs(score) -> None:
    diagonal, weight = np.random.default_rng(3).uniform(0.1, 5, 8), drawn(5, 8)
    whole = score([Reader.of(weight, FOUR, np.diag(diagonal))])
    np.testing.assert_allclose(score([Reader.of(weight, FOUR, diagonal)]), whole, rtol=0.2)


def test_layers_of_one_input_are_one_layer() -> None:
    x, weight = samples(8), drawn(6, 8)
    gram = x.T @ x / len(x)
    split = [Reader.of(part, FOUR, gram) for part in (weight[:2], weight[2:])]
    assert len(saliency.joined(split)) == 1
    other = Reader.of(weight, FOUR, gram.copy())
    assert len(saliency.joined([*split, other])) == 2
    np.testing.assert_allclose(saliency.explained(split), saliency.explained([other]))


@pytest.mark.parametrize("score", [saliency.wanda, saliency.fluctuation, saliency.error, saliency.merging,
                                   saliency.explained])  # fmt: skip
def test_dead_channels_are_worth_nothing(score) -> None:
    x, weight = samples(8), drawn(5, 8)
    x[:, FOUR[1]] = 0.0
    found = score([read(x, weight, FOUR)])
    assert found[1] <= 1e-2 * np.delete(found, 1).min()
    assert np.isfinite(score([read(x * 0.0, weight, FOUR)])).all()
