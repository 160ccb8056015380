from __future__ import annotations

import pytest

from lwc.backends import TABLE
from lwc.compiler.core.target import NAMED
from lwc.passes.solvers.patterns import pattern_of
from lwc.passes.sparsity import executed


@pytest.mark.parametrize("backend", TABLE)
def test_no_runtime_on_a_processor_skips_zeros(backend: str) -> None:
    for target in NAMED.values():
        assert executed.sparse_patterns(target, backend) == frozenset()


def test_what_is_listed_is_of_its_device_and_backend(monkeypatch) -> None:
    monkeypatch.setitem(executed._EXECUTED, ("cpu", "tvm"), frozenset({"2:4"}))
    target = NAMED["cpu:x86-64-v4"]
    assert [executed.sparse_patterns(target, name) for name in ("tvm", "openvino")] == [{"2:4"}, frozenset()]


def test_patterns_are_listed_by_names_that_can_be_read() -> None:
    for (device, backend), patterns in executed._EXECUTED.items():
        assert device in ("cpu", "cuda")
        assert backend in TABLE
        assert all(pattern_of(pattern) for pattern in patterns)
