"""Arrays in files: the same numbers, gone when nobody reads them, found where they lie."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.core import external, mapped
from lwc.compiler.core.external import contents, move_to_file
from lwc.compiler.core.mapped import kept_in_file, kept_together, map_file, moved_to_file, place_of, release_pages


def test_numbers_in_a_file_are_the_same_before_and_after_their_pages_are_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mapped, "IN_FILE_BYTES", 8)
    array = np.arange(5000, dtype=np.float64).reshape(50, 100).T
    kept = kept_in_file(array)
    assert kept is not array
    release_pages()
    np.testing.assert_array_equal(kept, array)


def test_small_arrays_stay_in_memory() -> None:
    array = np.ones(10)
    assert kept_in_file(array) is array


def test_arrays_that_are_large_together_lie_in_one_file_also_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = np.arange(6, dtype=np.int32).reshape(2, 3), np.zeros((0, 4), np.float32), np.ones(3, np.uint8)
    assert all(kept is array for kept, array in zip(kept_together(*arrays), arrays, strict=True))
    monkeypatch.setattr(mapped, "IN_FILE_BYTES", 27)
    found = kept_together(*arrays)
    release_pages()
    for kept, array in zip(found, arrays, strict=True):
        assert kept is not array
        assert (kept.dtype, kept.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(kept, array)


def test_the_file_goes_when_nothing_maps_it() -> None:
    ((data, place),) = moved_to_file([b"weights"])
    assert bytes(data) == b"weights"
    assert place.path.exists()
    del data
    gc.collect()
    assert not place.path.exists()


def test_an_empty_file_is_no_map() -> None:
    ((data, _),) = moved_to_file([b""])
    assert bytes(data) == b""


def test_parts_start_at_pages_and_are_found_in_the_file() -> None:
    found = moved_to_file([b"abc", b"defg"])
    for data, place in found:
        assert place.offset % 4096 == 0
        assert place.path.read_bytes()[place.offset :][: len(data)] == bytes(data)


def test_a_file_that_was_written_again_is_no_place(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(b"12345678")
    place = mapped.Place(path, 0, mapped.stamp_of(path.stat()))
    assert place.stands()
    path.write_bytes(b"123456789")
    assert not place.stands()
    path.unlink()
    assert not place.stands()


def test_a_map_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(b"12345678")
    data = map_file(path)
    path.unlink()
    release_pages()
    assert bytes(data) == b"12345678"


def test_weights_made_in_memory_move_and_those_in_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "LARGE_BYTES", 16)
    monkeypatch.setattr(external, "_MANY_BYTES", 16)
    large = ir.tensor(np.arange(100, dtype=np.float32), name="large", doc_string="kept")
    packed = ir.PackedTensor(np.arange(50, dtype=np.uint8), ir.DataType.UINT4, shape=ir.Shape((10, 10)), name="packed")
    small = ir.tensor(np.ones(2, np.float32), name="small")
    values = [ir.Value(name=t.name, const_value=t, type=ir.TensorType(t.dtype)) for t in (large, packed, small)]
    model = ir.Model(ir.Graph([], [], nodes=[], initializers=values, name="g"), ir_version=10)
    move_to_file(model)
    moved = [value.const_value for value in values]
    assert [tensor is not None and place_of(tensor) is not None for tensor in moved] == [True, True, False]
    for before, after in zip((large, packed, small), moved, strict=True):
        assert after is not None
        assert (bytes(contents(after)), after.dtype, after.name) == (bytes(contents(before)), before.dtype, before.name)
    assert moved[0] is not None
    assert moved[0].doc_string == "kept"
    move_to_file(model)
    assert [value.const_value for value in values] == moved
