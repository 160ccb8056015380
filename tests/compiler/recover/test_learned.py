"""Updates of weights: none at first, masks stay, the merged weight is what was computed with."""

import pytest

torch = pytest.importorskip("torch")

from lwc.compiler.recover.learned import Learned  # noqa: E402
from lwc.compiler.recover.roles import Role  # noqa: E402

GENERATOR = torch.Generator().manual_seed(0)
WEIGHTS = {
    "bias": torch.tensor([0.0, 1.0, -2.0]),
    "conv": torch.randn(6, 4, 3, 3, generator=GENERATOR),
    "matmul": torch.randn(4, 5, generator=GENERATOR),
    "masked": torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, -1.0]]),
    "still": torch.ones(2),
}
ROLES = {"bias": Role(whole=True), "conv": Role(whole=False, axis=0), "matmul": Role(whole=False, axis=1)}


def learned(roles: dict[str, Role], rank: int = 2) -> Learned:
    return Learned(WEIGHTS, roles, rank, torch.Generator().manual_seed(1))


def moved(roles: dict[str, Role], rank: int = 2) -> dict[str, "torch.Tensor"]:
    """Weights after every parameter was moved at random."""
    found = learned(roles, rank)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=GENERATOR))
    return found.merged()


def test_begins_with_the_weights_as_they_are() -> None:
    for name, value in learned(ROLES).merged().items():
        assert torch.equal(value, WEIGHTS[name])


def test_only_weights_with_a_role_learn() -> None:
    assert set(moved(ROLES)) == set(ROLES)


def test_updates_of_a_layer_have_the_rank_beside_a_scale_of_its_outputs() -> None:
    after, before = moved({"matmul": ROLES["matmul"]}, rank=1)["matmul"], WEIGHTS["matmul"]
    scaled = [torch.linalg.matrix_rank(after - before * (1 + g)) for g in (0.0,)]
    assert int(scaled[0]) > 1  # scale of each output, and one rank
    found = learned({"matmul": ROLES["matmul"]}, rank=1)
    gain = found.parameters()[0]
    assert gain.shape == (5, 1)
    with torch.no_grad():
        gain[3] = 1.0
    changed = (found.merged()["matmul"] != before).any(0)
    assert changed.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("role", [Role(whole=True), Role(whole=False)])
def test_zeros_of_weights_stay(role: Role) -> None:
    after = moved({"masked": role})["masked"]
    assert torch.equal(after == 0, WEIGHTS["masked"] == 0)


def test_zeros_of_biases_learn() -> None:
    assert moved(ROLES)["bias"][0] != 0


def test_the_weights_they_came_from_are_not_written_into() -> None:
    before = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    moved(ROLES)
    assert all(torch.equal(before[name], WEIGHTS[name]) for name in before)
