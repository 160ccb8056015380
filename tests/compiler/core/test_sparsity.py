import pytest

from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.sparsity import Sparsity


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("none", Sparsity()),
        ("auto", Sparsity("auto")),
        ("channels:0.3", Sparsity("channels", 0.3)),
        ("channels:.25", Sparsity("channels", 0.25)),
        ("2:4", Sparsity("mask", pattern="2:4")),
        ("1:4", Sparsity("mask", pattern="1:4")),
        ("block:4x1", Sparsity("mask", pattern="block:4x1")),
    ],
)
def test_reads_what_the_flag_says(text: str, meant: Sparsity) -> None:
    assert Sparsity.parse(text) == meant
    assert meant.asked == (text not in ("none", "auto"))


@pytest.mark.parametrize(
    "text", ["", "some", "channels:", "channels:0", "channels:0.0", "channels:1.0", "channels:1.5", "channels:-0.1",
             "4:4", "4:2", "0:4", "2:64", "block:0x4", "block:4", "2:4 "]
)  # fmt: skip
def test_refuses_what_leaves_nothing_or_everything(text: str) -> None:
    with pytest.raises(UsageError, match="channels:RATIO"):
        Sparsity.parse(text)
