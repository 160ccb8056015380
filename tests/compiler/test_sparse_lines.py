import pytest

from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Dropped, Float, Masked, Pruned, Site
from lwc.compiler.core.target import NAMED
from lwc.compiler.prepare import clean_model
from lwc.compiler.search.space import Option, Space
from lwc.compiler.sparse_lines import SparseLines
from lwc.models import digits

GROUP = Site("/2/branch/branch.0/branch.0.0/Conv", "Conv", "channels")
HALF = Pruned(tuple(range(24)))


@pytest.fixture(scope="module")
def lines() -> SparseLines:
    return SparseLines(clean_model(Model.open(digits.path("cnn")), NAMED["cpu:x86-64-v4"])[0])


def test_says_how_much_left(lines: SparseLines) -> None:
    assert lines.choice(GROUP, HALF) == "pruned 24 of 48"
    assert lines.parameters(GROUP, HALF) == (2 * 9 * 48 * 48 + 48) // 2
    assert lines.macs(GROUP, HALF) == 32 * 32 * 9 * 48 * 48
    assert lines.choice(GROUP, Float()) == "whole"
    assert lines.parameters(GROUP, Float()) == lines.macs(GROUP, Float()) == 0


def test_a_block_leaves_with_its_layers(lines: SparseLines) -> None:
    site = Site("/2/Add", "Add", "block")
    assert lines.choice(site, Dropped()) == "dropped"
    assert lines.parameters(site, Dropped()) == 2 * (9 * 48 * 48 + 48)
    assert lines.macs(site, Dropped()) == 2 * 32 * 32 * 9 * 48 * 48


def test_says_why(lines: SparseLines) -> None:
    whole, half = Option(Float(), 0.0, 0, 0.0), Option(HALF, -0.25, -100, 0.1)
    searched = Space({GROUP: (whole, half)})
    assert lines.reason(searched, GROUP, HALF) == "saves 0.250 ms"
    assert "pruned 24 of 48 costs accuracy" in lines.reason(searched, GROUP, Float())
    assert lines.reason(Space({GROUP: (half,)}), GROUP, HALF) == "asked for"
    assert lines.reason(Space({}), GROUP, HALF) == "the plan says so"
    assert "no speed-up on this target" in lines.reason(Space({}), GROUP, Masked("2:4"))
