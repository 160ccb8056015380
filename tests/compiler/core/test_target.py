"""The host is described from what its kernel says; named targets do not depend on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lwc.compiler.core import target as target_module
from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.target import NAMED, Target, _cpu_features, find_target, host

Machine = Callable[..., Target]

ZEN4 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9654 96-Core Processor
flags\t\t: fpu sse sse2 fma avx avx2 avx512f avx512_vnni avx512_bf16 rdtscp

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
HASWELL = """processor\t: 0
model name\t: Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz
flags\t\t: fpu sse sse2 fma avx avx2
"""
ALDER_LAKE = "model name\t: 12th Gen Intel(R) Core(TM) i7-12700\nflags\t\t: avx2 fma avx_vnni\n"
GRAVITON = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd aes asimddp sve i8mm bf16
CPU implementer\t: 0x41
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this machine look like another one."""

    def become(kind: str, cpuinfo: str, cores: int = 4) -> Target:
        path = tmp_path / "cpuinfo"
        path.write_text(cpuinfo)
        monkeypatch.setattr(target_module.platform, "machine", lambda: kind)
        monkeypatch.setattr(target_module.platform, "processor", lambda: "")
        monkeypatch.setattr(target_module, "_cpu_features", lambda: _cpu_features(path))
        monkeypatch.setattr(target_module.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        return host()

    return become


def test_a_cpu_with_vnni_sums_in_full_range(machine: Machine) -> None:
    found = machine("x86_64", ZEN4, cores=8)
    assert (found.name, found.device, found.arch) == ("host", "cpu", "x86-64")
    assert found.processor == "AMD EPYC 9654 96-Core Processor"
    assert found.features == {"fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16"}
    assert not found.reduce_range
    assert not found.symmetric_activations
    assert found.threads == 8


def test_a_cpu_without_vnni_reduces_the_range(machine: Machine) -> None:
    assert machine("AMD64", HASWELL).reduce_range


def test_vnni_of_256_bits_counts(machine: Machine) -> None:
    assert not machine("x86_64", ALDER_LAKE).reduce_range


def test_an_arm_cpu_wants_symmetric_activations(machine: Machine) -> None:
    found = machine("aarch64", GRAVITON)
    assert found.arch == "aarch64"
    assert found.features == {"asimddp", "i8mm", "bf16"}
    assert found.symmetric_activations
    assert not found.reduce_range
    assert found.channel_alignment == 8


def test_a_machine_without_cpuinfo_is_described_cautiously(tmp_path: Path) -> None:
    features, _ = _cpu_features(tmp_path / "gone")
    assert features == frozenset()


def test_the_fingerprint_tells_machines_apart(machine: Machine) -> None:
    zen = machine("x86_64", ZEN4)
    prints = [
        zen.fingerprint,
        machine("x86_64", ZEN4.replace("9654", "9754")).fingerprint,
        machine("x86_64", ZEN4, cores=2).fingerprint,
        machine("x86_64", HASWELL).fingerprint,
    ]
    assert len(set(prints)) == 4
    assert machine("x86_64", ZEN4).fingerprint == zen.fingerprint


def test_the_fingerprint_ignores_the_order_of_features() -> None:
    targets = [Target("t", "cpu", "x86-64", frozenset(order)) for order in (["fma", "avx2"], ["avx2", "fma"])]
    assert targets[0].fingerprint == targets[1].fingerprint


def test_a_target_of_another_architecture_is_foreign(machine: Machine) -> None:
    machine("x86_64", HASWELL)
    assert [NAMED[name].is_foreign for name in ("cpu:x86-64-v4", "cpu:aarch64")] == [False, True]
    machine("aarch64", GRAVITON)
    assert [NAMED[name].is_foreign for name in ("cpu:x86-64-v4", "cpu:aarch64")] == [True, False]


def test_threads_are_part_of_the_target() -> None:
    target = NAMED["cpu:x86-64-v4"]
    assert target.with_threads(3).threads == 3
    assert target.with_threads(3).fingerprint != target.with_threads(4).fingerprint


@pytest.mark.parametrize("name", NAMED)
def test_named_targets_are_found(name: str) -> None:
    found = find_target(name)
    assert found.name == name
    assert found.threads >= 1


def test_the_older_named_cpu_has_no_vnni() -> None:
    assert NAMED["cpu:x86-64-v3"].reduce_range
    assert not NAMED["cpu:x86-64-v4"].reduce_range
    assert NAMED["cpu:aarch64"].symmetric_activations


def test_an_unknown_name_is_refused_with_those_known() -> None:
    with pytest.raises(UsageError, match=r"Unknown target 'abacus'\. Known targets: host, cpu:x86-64-v3"):
        find_target("abacus")


def test_a_target_file_changes_the_fields_it_names(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text('base = "cpu:x86-64-v3"\nthreads = 3\nfeatures = ["avx2"]\n')
    target = find_target(str(tmp_path / "board.toml"))
    assert (target.name, target.threads, target.features) == ("board", 3, frozenset({"avx2"}))
    assert target.reduce_range


@pytest.mark.parametrize("text", ["threads = 'many'", "cores = 3", "threads = ", "base = 'nothing'"])
def test_a_target_file_that_makes_no_sense_is_a_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "board.toml").write_text(text)
    with pytest.raises(UsageError):
        find_target(str(tmp_path / "board.toml"))
