"""The file of statistics: what is written is read back, sharing included, and damage is reported."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from lwc.compiler.core.accumulate import TensorAccumulator
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats, TensorStats, load_stats, save_stats


def tensor_stats(seed, axis=None):
    accumulator = TensorAccumulator(axis)
    accumulator.update(np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32))
    return accumulator.finish()


def layers():
    shared, gram = tensor_stats(0), np.arange(9.0).reshape(3, 3)
    return {
        Site("conv", "Conv"): LayerStats((shared, None), (tensor_stats(1, axis=1),), gram),
        Site("relu", "Relu", "value"): LayerStats((tensor_stats(2),), (shared, None)),
        Site("fc", "Gemm"): LayerStats((shared,), (), gram),
    }


def assert_same(a: TensorStats | None, b: TensorStats | None):
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        for field in fields(TensorStats):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


def test_statistics_come_back_as_they_were(tmp_path):
    save_stats(tmp_path / "stats.npz", layers())
    back = load_stats(tmp_path / "stats.npz")
    assert list(back) == list(layers())
    for site, layer in layers().items():
        for mine, theirs in zip(
            (*layer.inputs, *layer.outputs), (*back[site].inputs, *back[site].outputs), strict=True
        ):
            assert_same(mine, theirs)
        assert (layer.gram is None) == (back[site].gram is None)
        if layer.gram is not None:
            np.testing.assert_array_equal(back[site].gram, layer.gram)


def test_what_sites_share_is_written_once_and_shared_again(tmp_path):
    save_stats(tmp_path / "stats.npz", layers())
    conv, relu, fc = load_stats(tmp_path / "stats.npz").values()
    assert conv.inputs[0] is relu.outputs[0] is fc.inputs[0]
    assert conv.gram is fc.gram
    with np.load(tmp_path / "stats.npz") as file:
        assert sum(name.startswith("gram") for name in file.files) == 1
        assert sum(name.endswith("histogram") for name in file.files) == 3


def test_no_sites_make_an_empty_file(tmp_path):
    save_stats(tmp_path / "stats.npz", {})
    assert load_stats(tmp_path / "stats.npz") == {}


def test_nothing_but_the_file_is_left_behind(tmp_path):
    save_stats(tmp_path / "stats.npz", layers())
    save_stats(tmp_path / "stats.npz", layers())
    assert [path.name for path in tmp_path.iterdir()] == ["stats.npz"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    save_stats(tmp_path / "stats.npz", layers())
    before = (tmp_path / "stats.npz").read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        save_stats(tmp_path / "stats.npz", {})
    assert (tmp_path / "stats.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_damaged_file_is_bad_input(tmp_path, keep):
    path = tmp_path / "stats.npz"
    save_stats(path, layers())
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(BadInput, match=r"stats\.npz"):
        load_stats(path)


def test_a_file_that_is_missing_or_another_npz_is_bad_input(tmp_path):
    with pytest.raises(BadInput):
        load_stats(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(BadInput):
        load_stats(tmp_path / "other.npz")


def test_the_same_statistics_make_the_same_bytes(tmp_path):
    save_stats(tmp_path / "a.npz", layers())
    save_stats(tmp_path / "b.npz", layers())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
