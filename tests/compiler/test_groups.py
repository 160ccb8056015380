import pytest

from lwc.compiler.cli.look import show_groups
from lwc.compiler.cli.screen import Screen
from lwc.compiler.groups import groups_of
from lwc.models import digits


def test_tells_what_is_coupled_and_what_must_stay() -> None:
    found = groups_of(digits.path("transformer"))
    stream, *_ = found.groups
    assert (stream.name, stream.channels, stream.heads, stream.exact) == ("/patches/Conv", 96, False, False)
    assert {"positions[2]", "head.weight[1]"} <= set(stream.tensors)
    heads = [line for line in found.groups if line.heads]
    assert [line.channels for line in heads] == [4, 4]
    hidden = next(line for line in found.groups if line.channels == 384)
    assert hidden.exact
    assert hidden.parameters == 96 * 384 + 384 + 384 * 96
    assert hidden.macs == 2 * 64 * 96 * 384
    assert [(refusal.value, refusal.size, refusal.operator) for refusal in found.refused] == [
        ("head.weight", 10, "graph output")
    ]


def test_depthwise_layers_count_once() -> None:
    line = next(line for line in groups_of(digits.path("cnn")).groups if line.channels == 128)
    assert line.parameters == (64 + 1) * 128 + (9 + 1) * 128 + 128 * 64
    assert line.macs == 16 * 16 * (64 * 128 + 9 * 128 + 128 * 64)


def test_the_table_names_groups_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    show_groups(Screen(), groups_of(digits.path("cnn")))
    shown = capsys.readouterr().out
    assert "/2/branch/branch.0/branch.0.0/Conv" in shown
    assert "graph output 'logits'" in shown
    assert "7 groups of channels, 1 axes that stay whole" in shown
