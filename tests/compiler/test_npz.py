"""Tables of samples from .npz: rows read in place, cut by the model's inputs; damage is reported."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import BadCalibration
from lwc.compiler.npz import open_npz, table


def port(name="x", shape=("n", 3), dtype=np.float32):
    return Port(name, np.dtype(dtype), shape)


def rows(count=10):
    return np.arange(count * 3, dtype=np.float32).reshape(count, 3)


def saved(tmp_path, save=np.savez, **arrays):
    path = tmp_path / "samples.npz"
    save(path, **arrays)
    return path


def message_of(function, *args):
    with pytest.raises(BadCalibration) as caught:
        function(*args)
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array",
    [
        rows(),
        np.asfortranarray(rows()),
        rows().astype(">f4"),
        np.arange(10),
        np.array(["a", "bcd"] * 5),
        np.arange(10) % 2 == 0,
        np.zeros((0, 3), np.float32),
    ],
)
def test_rows_read_from_the_file_are_those_that_were_saved(tmp_path, save, array):
    arrays, folder = open_npz(saved(tmp_path, save, x=array), None)
    stored = arrays["x"]
    assert (folder is None) == (save is np.savez)
    for start, stop in ((0, 1), (3, 7), (0, len(array))):
        np.testing.assert_array_equal(stored[start:stop], array[start:stop])
        assert stored[start:stop].dtype == array.dtype


def test_scalars_are_read_whole(tmp_path):
    arrays, _ = open_npz(saved(tmp_path, rate=np.array(16000)), None)
    assert arrays["rate"].whole() == 16000


def test_unpacked_members_go_with_the_table(tmp_path):
    arrays, folder = open_npz(saved(tmp_path, np.savez_compressed, x=rows()), None)
    samples = table(arrays, [port()], "s", folder)
    place = folder.name
    assert os.path.isdir(place)
    del samples, folder
    assert not os.path.isdir(place)


def test_pickled_objects_are_refused(tmp_path):
    message = message_of(open_npz, saved(tmp_path, x=np.array([{}, []], dtype=object)), None)
    assert "pickled Python objects" in message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keep", [0, 30, 0.5])
def test_a_truncated_file_is_refused(tmp_path, save, keep):
    path = saved(tmp_path, save, x=rows(1000))
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    assert f"{path} cannot be read as .npz" in message_of(open_npz, path, None)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_is_noticed(tmp_path, save):
    path = saved(tmp_path, save, x=np.random.default_rng(0).standard_normal((1000, 3)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "cannot be read" in message_of(open_npz, path, None)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "samples.npz"
    np.save(path.with_suffix(".npy"), rows())
    path.with_suffix(".npy").rename(path)
    assert "cannot be read as .npz" in message_of(open_npz, path, None)


def test_a_member_shorter_than_its_header_says_is_refused(tmp_path):
    path = tmp_path / "samples.npz"
    np.save(tmp_path / "x.npy", rows())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", (tmp_path / "x.npy").read_bytes()[:-4])
    assert "not the size its header says" in message_of(open_npz, path, None)


def test_a_file_cut_while_it_is_read_is_reported(tmp_path):
    path = saved(tmp_path, x=rows())
    arrays, _ = open_npz(path, None)
    path.write_bytes(path.read_bytes()[:100])
    assert "cut short" in message_of(arrays["x"].__getitem__, slice(5, 9))


def test_a_sample_keeps_the_batch_axis():
    samples = table({"x": rows(), "label": np.arange(10)}, [port()], "s")
    assert len(samples) == 10
    np.testing.assert_array_equal(samples[4]["x"], rows()[4:5])
    np.testing.assert_array_equal(samples[4]["label"], [4])


def test_a_fixed_batch_takes_as_many_rows_as_it_needs():
    samples = table({"x": rows(), "label": np.arange(10)}, [port(shape=(5, 3))], "s")
    assert len(samples) == 2
    np.testing.assert_array_equal(samples[1]["x"], rows()[5:])
    np.testing.assert_array_equal(samples[1]["label"], np.arange(5, 10))


def test_one_label_per_batch_is_taken_too():
    samples = table({"x": rows(), "label": np.arange(2)}, [port(shape=(5, 3))], "s")
    np.testing.assert_array_equal(samples[1]["label"], [1])


def test_an_axis_more_than_the_model_has_counts_samples():
    states = np.arange(24, dtype=np.float32).reshape(4, 2, 1, 3)
    samples = table({"x": rows(4), "h": states}, [port(), port("h", (2, "n", 3))], "s")
    np.testing.assert_array_equal(samples[3]["h"], states[3])


def test_an_array_without_axes_is_the_same_for_all():
    samples = table({"x": rows(), "sr": np.array(16000)}, [port(), port("sr", (), np.int64)], "s")
    assert len(samples) == 10
    assert samples[7]["sr"] == 16000


def test_a_value_per_sample_fits_an_input_without_axes():
    samples = table({"x": rows(), "t": np.arange(10)}, [port(), port("t", (), np.int64)], "s")
    assert samples[7]["t"] == 7
    assert samples[7]["t"].shape == ()


def test_arrays_of_different_length_are_refused():
    message = message_of(table, {"x": rows(10), "m": rows(9)}, [port(), port("m")], "s.npz")
    assert "'x' holds 10 samples and 'm' holds 9" in message


def test_rows_that_do_not_fill_a_batch_are_refused():
    message = message_of(table, {"x": rows(10)}, [port(shape=(4, 3))], "s.npz")
    assert "10 rows; the model takes 4 at a time" in message


def test_labels_that_are_not_one_per_sample_are_refused():
    message = message_of(table, {"x": rows(10), "label": np.arange(7)}, [port()], "s.npz")
    assert "'label' has 7 rows for 10 samples" in message


def test_a_missing_input_is_named():
    assert "has no array for input 'x'; it holds 'y'" in message_of(table, {"y": rows()}, [port()], "s.npz")
