from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm import processor
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.processor import TILES, Processor, standing_in
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.target import INTERESTING_FEATURES, NAMED, Target, host

SPR = Processor("x86_64-linux-gnu", ("avx2", "avx512f", *sorted(TILES)))


def pretend(monkeypatch: pytest.MonkeyPatch, here: Target, *, tiles: bool = True) -> None:
    """This machine is `here`, whether Linux lets a process use its tiles or not."""
    monkeypatch.setattr(processor, "host", lambda: here)
    monkeypatch.setattr(processor, "tiles_allowed", lambda: tiles)
    monkeypatch.setattr(processor, "is_native", lambda triple: triple.startswith(here.arch.replace("-", "_")))


def test_every_machine_says_flags_that_are_asked_of_processors() -> None:
    x86 = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"]
    targets = [
        replace(NAMED["cpu:x86-64-v3"], features=frozenset(some)) for n in range(7) for some in combinations(x86, n)
    ]
    for target in [*targets, *NAMED.values()]:
        assert set(Processor.of(Machine.of(target)).flags) <= INTERESTING_FEATURES


def test_this_machine_runs_code_for_itself() -> None:
    assert Processor.of(Machine.of(host())).lacking() == ()
    assert standing_in(host()) == host()


def test_what_is_lacking_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, NAMED["cpu:x86-64-v3"])
    assert SPR.lacking() == ("avx512f", *sorted(TILES))
    assert Processor.of(Machine.of(NAMED["cpu:aarch64"])).lacking() == ("aarch64-linux-gnu",)
    with pytest.raises(BadInput, match="model is compiled for a processor with avx512f"):
        SPR.check("model")


def test_tiles_that_linux_forbids_are_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    here = replace(NAMED["cpu:x86-64-v4"], features=frozenset(SPR.flags))
    pretend(monkeypatch, here)
    assert SPR.lacking() == ()
    pretend(monkeypatch, here, tiles=False)
    assert set(SPR.lacking()) == TILES


def test_this_machine_stands_in_for_one_whose_code_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    here = NAMED["cpu:x86-64-v3"].with_threads(4)
    pretend(monkeypatch, here)
    foreign = NAMED["cpu:aarch64"].with_threads(1)
    assert standing_in(foreign) == here.with_threads(1)
    assert standing_in(NAMED["cpu:x86-64-v4"].with_threads(2)) == here.with_threads(2)
    assert standing_in(here.with_threads(3)) == here.with_threads(3)
