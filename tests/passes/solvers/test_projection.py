"""OPCM's projection against its definition with full singular vectors."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.passes.solvers.projection import add_projected, orthogonal_part


def by_definition(total: np.ndarray, change: np.ndarray, leading: float) -> np.ndarray:
    """Coordinates in all singular vectors, the leading block and the diagonal set to zero."""
    left, values, right = np.linalg.svd(total, full_matrices=True)
    rank = int(np.argmax(np.cumsum(values) > leading * values.sum()))
    inside = left.T @ change @ right.T
    np.fill_diagonal(inside, 0.0)
    inside[:rank, :rank] = 0.0
    return left @ inside @ right


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
@pytest.mark.parametrize("leading", [0.0, 0.5, 0.9])
def test_is_the_projection_of_the_definition(shape: tuple[int, int], leading: float) -> None:
    total, change = np.random.default_rng(0).standard_normal((2, *shape))
    np.testing.assert_allclose(
        orthogonal_part(total, change, leading), by_definition(total, change, leading), atol=1e-10
    )


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_what_is_added_is_orthogonal_to_what_is_there(rank: int) -> None:
    rng = np.random.default_rng(1)
    total = rng.standard_normal((8, rank)) @ rng.standard_normal((rank, 6))
    added = orthogonal_part(total, rng.standard_normal((8, 6)))
    assert abs(float((total * added).sum())) < 1e-9
    assert np.linalg.norm(added) > 1.0


def test_the_first_task_is_taken_whole() -> None:
    change = np.random.default_rng(2).standard_normal((3, 4))
    np.testing.assert_array_equal(add_projected(np.zeros((3, 4)), change), change)


def test_a_task_that_is_there_already_adds_nothing() -> None:
    total = np.random.default_rng(3).standard_normal((5, 4))
    np.testing.assert_allclose(add_projected(total, 2.0 * total), total, atol=1e-12)
