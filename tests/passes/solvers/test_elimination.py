"""Orders of removal against refitting on samples, and against all subsets where they are few."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lwc.passes.solvers.elimination import by_score, eliminate, eliminate_refitted
from lwc.passes.solvers.saliency import Reader, explained


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def samples(features: int, seed: int = 1) -> np.ndarray:
    mixing = drawn(features, features, seed=seed + 1) * (np.arange(features) + 1.0)[:, None] ** -0.7
    return drawn(300, features, seed=seed) @ mixing + drawn(features, seed=seed + 2)


def read(x: np.ndarray, weight: np.ndarray, positions: np.ndarray, centred: bool = True) -> Reader:
    return Reader.of(weight, positions, x.T @ x / len(x), x.mean(0) if centred else None)


def refitted_loss(x: np.ndarray, weight: np.ndarray, removed: np.ndarray) -> float:
    others = np.column_stack([np.delete(x, removed, axis=1), np.ones(len(x))])
    wanted = x @ weight.T
    return float(np.square(wanted - others @ np.linalg.lstsq(others, wanted, rcond=None)[0]).sum(1).mean())


def plain_loss(x: np.ndarray, weight: np.ndarray, removed: np.ndarray) -> float:
    return float((x[:, removed] @ weight[:, removed].T).var(0).sum())


BLOCKS = np.arange(12).reshape(6, 2)
SHUFFLED = np.array([[7, 2], [0, 9], [4, 1], [3, 8]])  # columns 5, 6, 10, 11 are no channel's


@pytest.mark.parametrize("positions", [BLOCKS, SHUFFLED], ids=["all columns", "some columns"])
def test_each_step_takes_the_channel_that_refitting_makes_up_for_best(positions: np.ndarray) -> None:
    pairs = [(samples(12), drawn(5, 12)), (samples(12, seed=7), drawn(3, 12, seed=8))]
    found = eliminate_refitted([read(x, weight, positions) for x, weight in pairs], damping=1e-12, together=1)
    gone: list[int] = []
    for channel, total in zip(found.channels, found.losses, strict=True):
        costs = {
            c: sum(refitted_loss(x, w, positions[[*gone, c]].reshape(-1)) for x, w in pairs)
            for c in set(range(len(positions))) - set(gone)
        }
        assert costs[channel] == pytest.approx(min(costs.values()), rel=1e-6)
        assert total == pytest.approx(costs[channel], rel=1e-6)
        gone.append(int(channel))


def test_each_step_takes_the_channel_whose_loss_with_those_gone_is_least() -> None:
    x, weight = samples(12), drawn(5, 12)
    found = eliminate([read(x, weight, BLOCKS)])
    gone: list[int] = []
    for channel, total in zip(found.channels, found.losses, strict=True):
        costs = {c: plain_loss(x, weight, BLOCKS[[*gone, c]].reshape(-1)) for c in set(range(6)) - set(gone)}
        assert costs[channel] == pytest.approx(min(costs.values()))
        gone.append(int(channel))
        reached = [plain_loss(x, weight, BLOCKS[gone[:n]].reshape(-1)) for n in range(1, len(gone) + 1)]
        assert total == pytest.approx(max(reached))
    assert sorted(gone) == list(range(6))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_comes_near_the_best_of_all_subsets_and_scores_alone_do_not(count: int) -> None:
    ours, scored, best = 0.0, 0.0, 0.0
    for seed in range(20):
        x, weight = samples(7, seed=seed), drawn(4, 7, seed=seed + 50)
        x[:, 3] = x[:, 5] + 0.3 * drawn(300, seed=seed + 90)  # either may leave, not both
        reader = read(x, weight, np.arange(7)[:, None])
        ours += refitted_loss(x, weight, eliminate_refitted([reader], damping=1e-9).channels[:count])
        scored += refitted_loss(x, weight, by_score(explained([reader], damping=1e-9)).channels[:count])
        best += min(refitted_loss(x, weight, np.array(s)) for s in itertools.combinations(range(7), count))
    assert best <= ours <= 1.3 * best
    assert count == 1 or ours < scored


def test_steps_of_several_channels_lose_little_more() -> None:
    x, weight = samples(40), drawn(9, 40)
    reader = read(x, weight, np.arange(40).reshape(20, 2))
    one, five = (eliminate_refitted([reader], damping=1e-9, together=n) for n in (1, 5))
    assert sorted(five.channels) == list(range(20))
    columns = reader.positions[five.channels[:10]].reshape(-1)
    assert five.losses[9] == pytest.approx(refitted_loss(x, weight, columns), rel=1e-5)
    assert one.losses[9] <= five.losses[9] <= 1.5 * one.losses[9]


def test_losses_never_fall() -> None:
    for seed in range(5):
        reader = read(samples(12, seed=seed), drawn(5, 12, seed=seed), BLOCKS, centred=False)
        for found in (eliminate([reader]), eliminate_refitted([reader], together=4)):
            assert (np.diff(found.losses) >= 0).all()


def test_variances_alone_are_inputs_that_explain_nothing_of_each_other() -> None:
    variances, weight = np.random.default_rng(3).uniform(0.1, 5, 12), drawn(5, 12)
    scores = (np.square(weight).sum(0) * variances).reshape(6, 2).sum(1)
    for found in (eliminate_refitted([Reader.of(weight, BLOCKS, variances)]), by_score(scores)):
        assert found.channels.tolist() == np.argsort(scores).tolist()
        np.testing.assert_allclose(found.losses, np.cumsum(np.sort(scores)))


@pytest.mark.parametrize("kind", ["zeros", "one sample", "dead inputs", "equal inputs", "huge", "tiny"])
def test_degenerate_moments_still_order_all_channels(layer, kind: str) -> None:
    weight, gram = layer(5, 12, kind)
    for found in (eliminate([Reader.of(weight, BLOCKS, gram)]), eliminate_refitted([Reader.of(weight, BLOCKS, gram)])):
        assert sorted(found.channels) == list(range(6))
        assert np.isfinite(found.losses).all()
