"""Calibration: sources, streaming, splitting by content, digests."""

from __future__ import annotations

import itertools
import os
import tracemalloc

import numpy as np
import pytest

from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import BadCalibration, UsageError
from lwc.compiler.data import Calibration, synthesize

X = Port("x", np.dtype(np.float32), ("n", 3))


def samples(count=10, label=True):
    rng = np.random.default_rng(0)
    made = [{"x": rng.standard_normal((1, 3)).astype(np.float32)} for _ in range(count)]
    return [{**sample, "label": np.array([i])} for i, sample in enumerate(made)] if label else made


def columns(count=10):
    listed = samples(count)
    return {name: np.concatenate([sample[name] for sample in listed]) for name in ("x", "label")}


def opened(source, limit=None, seed=0, inputs=(X,)):
    return Calibration.open(source, inputs, limit=limit, seed=seed)


def message_of(source, **options):
    with pytest.raises(BadCalibration) as caught:
        opened(source, **options)
    return str(caught.value)


def assert_same(calibration, wanted):
    for _ in range(2):
        found = list(calibration)
        assert len(found) == len(wanted) == len(calibration)
        for mine, theirs in zip(found, wanted, strict=True):
            assert set(mine) == set(theirs)
            for name, array in theirs.items():
                np.testing.assert_array_equal(mine[name], array)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's on the path."""
    (tmp_path / "my_samples.py").write_text(
        "import numpy as np\n"
        "def good():\n"
        "    for i in range(10):\n"
        "        yield {'x': np.full((1, 3), i, np.float32)}\n"
        "def late():\n"
        "    yield from good()\n"
        "    raise ValueError('no more')\n"
        "def broken():\n"
        "    raise KeyError('file')\n"
        "def one_dict():\n"
        "    return {'x': np.ones((1, 3), np.float32)}\n"
        "number = 3\n"
    )
    (tmp_path / "my_broken.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "my_samples"


def write_folder(folder, items):
    folder.mkdir()
    for i, item in enumerate(items):
        np.savez(folder / f"{i:03}.npz", **item)
    return folder


@pytest.mark.parametrize("kind", ["npz", "compressed npz", "folder", "list", "iterator", "callable", "dict of arrays"])
def test_every_source_gives_the_same_samples_again_and_again(tmp_path, kind):
    if kind == "npz":
        np.savez(tmp_path / "s.npz", **columns())
    elif kind == "compressed npz":
        np.savez_compressed(tmp_path / "s.npz", **columns())
    source = {
        "folder": lambda: str(write_folder(tmp_path / "folder", samples())),
        "list": samples,
        "iterator": lambda: iter(samples()),
        "callable": lambda: lambda: iter(samples()),
        "dict of arrays": columns,
    }.get(kind, lambda: tmp_path / "s.npz")()
    calibration = opened(source)
    assert_same(calibration, samples())
    assert (calibration.source, calibration.labels, calibration.names) == ("user", ("label",), ("x",))
    assert calibration.digest() == opened(samples()).digest()


def test_a_function_of_a_module_is_found_by_name(module):
    calibration = opened(f"{module}:good")
    assert [float(sample["x"][0, 0]) for sample in calibration] == list(range(10))


def test_samples_of_a_folder_may_differ_in_shape(tmp_path):
    ragged = [{"x": np.ones((1, width, 3), np.float32)} for width in (2, 5, 3)]
    calibration = opened(write_folder(tmp_path / "f", ragged), inputs=(Port("x", np.dtype(np.float32), ("n", "w", 3)),))
    assert [sample["x"].shape[1] for sample in calibration] == [2, 5, 3]
    assert calibration.largest()["x"].shape == (1, 5, 3)


def test_an_endless_generator_is_read_up_to_the_limit():
    endless = ({"x": np.full((1, 3), i, np.float32)} for i in itertools.count())
    assert [float(sample["x"][0, 0]) for sample in opened(endless, limit=4)] == [0, 1, 2, 3]


def test_a_limit_draws_samples_by_the_seed(tmp_path):
    np.savez(tmp_path / "s.npz", **columns(100))
    drawn = [[int(s["label"][0]) for s in opened(tmp_path / "s.npz", limit=10, seed=seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 10
    assert max(drawn[0]) > 50


def test_only_drawn_samples_need_to_fit():
    listed = [*samples(50), {"x": "nonsense"}]
    with pytest.raises(BadCalibration):
        opened(listed)
    drawn = [opened(listed, limit=1, seed=seed) for seed in range(3)]
    assert all(len(calibration) == 1 for calibration in drawn)


def test_feeds_leave_labels_out_and_take_the_models_types():
    doubles = [{"x": np.ones((1, 3)), "label": np.array([1])}]
    assert [list(feeds) for feeds in opened(doubles).feeds()] == [["x"]]
    assert next(opened(doubles).feeds())["x"].dtype == np.float32


def test_the_callers_arrays_are_not_changed():
    listed = [{"x": np.ones((1, 3))}]
    list(opened(listed))
    assert listed[0]["x"].dtype == np.float64


def test_a_calibration_opens_as_itself():
    calibration = opened(samples())
    assert opened(calibration) is calibration
    assert len(opened(calibration, limit=3)) == 3


def test_split_halves_share_no_sample_and_lose_none():
    calibration = opened(samples(11))
    first, held = calibration.split()
    labels = [[int(sample["label"][0]) for sample in part] for part in (first, held)]
    assert sorted(labels[0] + labels[1]) == list(range(11))
    assert (len(first), len(held)) == (6, 5)
    assert not first.reused
    assert not held.reused


@pytest.mark.parametrize("count", [2, 3, 7])
def test_both_halves_have_a_sample_when_there_are_two(count):
    assert all(len(half) >= 1 for half in opened(samples(count)).split())


def test_split_follows_the_seed():
    def labels(seed):
        return [int(sample["label"][0]) for sample in opened(samples(20), seed=seed).split()[0]]

    assert labels(0) == labels(0) != labels(1)


def test_copies_of_a_sample_stay_on_one_side_whatever_their_labels():
    base = samples(8)
    doubled = [{**sample, "label": np.array([9])} for sample in base] + base
    for seed in range(5):
        first, held = opened(doubled, seed=seed).split()
        seen = {sample["x"].tobytes() for sample in first}
        assert not seen & {sample["x"].tobytes() for sample in held}
        assert len(first) == len(held) == 8


def test_a_copy_in_another_type_is_a_copy():
    x = np.array([[1.0, 2.0, 3.0]], np.float32)
    first, held = opened([{"x": x}, {"x": x.astype(np.float64)}]).split()
    assert first.reused
    assert held.reused


@pytest.mark.parametrize("count", [1, 4])
def test_without_two_different_samples_both_halves_are_the_same_and_say_so(count):
    first, held = opened([samples(1)[0]] * count).split()
    assert len(first) == len(held) == count
    assert first.reused
    assert held.reused


def test_the_digest_sees_inputs_labels_and_order():
    base, listed = opened(samples()).digest(), samples()
    assert opened(samples()).digest() == base
    assert opened(listed[::-1]).digest() != base
    assert opened(samples(9)).digest() != base
    listed[3] = {**listed[3], "label": np.array([77])}
    assert opened(listed).digest() != base
    assert len(base) == 64


def test_take_keeps_the_first():
    assert [int(sample["label"][0]) for sample in opened(samples()).take(2)] == [0, 1]


def test_no_samples_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "s.npz", x=np.zeros((0, 3), np.float32))
    assert "holds no samples" in message_of([])
    assert "holds no samples" in message_of(iter([]))
    assert "holds no samples" in message_of(tmp_path / "s.npz")
    assert "holds no .npz files" in message_of(tmp_path / "empty")


def test_a_path_that_is_not_there_is_named(tmp_path):
    assert "There is no file" in message_of(tmp_path / "none.npz")


def test_a_damaged_file_in_a_folder_is_named(tmp_path):
    folder = write_folder(tmp_path / "f", samples(3))
    (folder / "001.npz").write_bytes(b"PK\x03\x04 nonsense")
    assert "001.npz cannot be read" in message_of(folder)


def test_pickled_arrays_in_a_folder_are_refused(tmp_path):
    folder = write_folder(tmp_path / "f", [{"x": np.array([{}], dtype=object)}])
    assert "pickled" in message_of(folder)


def test_the_sample_that_does_not_fit_is_named(tmp_path):
    bad = [*samples(3), {"x": np.full((1, 3), np.nan, np.float32), "label": np.array([3])}]
    folder = write_folder(tmp_path / "f", bad)
    assert message_of(folder).startswith(f"{folder / '003.npz'}: input 'x' holds NaN")
    assert message_of(bad).startswith("Calibration sample 3: input 'x'")
    assert "sample 3: input 'x'" in message_of(iter(bad))


def test_labels_that_only_some_samples_have_are_refused():
    assert "'label' is in some calibration samples" in message_of([*samples(2), *samples(1, label=False)])


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("my_samples:late", "'my_samples:late' failed after some samples: ValueError: no more"),
        ("my_samples:broken", "failed: KeyError"),
        ("my_samples:one_dict", "returned a dict"),
    ],
)
def test_a_function_that_fails_is_named(module, function, says):
    assert says in message_of(function)


@pytest.mark.parametrize("reference", ["my_samples:nothing", "no_such_module:f", "my_broken:f", "my_samples:number"])
def test_a_function_that_cannot_be_loaded_is_a_usage_error(module, reference):
    with pytest.raises(
        UsageError, match=reference.partition(":")[0] if "number" not in reference else "not a function"
    ):
        opened(reference)


def test_a_source_of_another_kind_is_a_usage_error():
    with pytest.raises(UsageError, match="int"):
        opened(3)


def test_interrupting_the_users_iterator_is_not_swallowed():
    def interrupted():
        yield samples(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(interrupted())


def test_spooled_samples_leave_no_files_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    calibration = opened(iter(samples()))
    assert os.listdir(tmp_path)
    first, held = calibration.split()
    del calibration
    assert_same(first.take(1), [next(iter(first))])
    del first, held
    assert not os.listdir(tmp_path)


def test_a_full_disk_is_reported_before_it_is_full(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 20}))
    assert "do not fit the temporary folder" in message_of(iter(samples()))


@pytest.mark.parametrize("kind", ["npz", "compressed npz", "folder", "iterator"])
def test_opening_and_reading_hold_a_sample_at_a_time(tmp_path, kind):
    """64 samples of 256 KB: less than 3 MB at any time."""
    big, count = Port("x", np.dtype(np.float32), ("n", 65536)), 64

    def generate():
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield {"x": rng.random((1, 65536), np.float32)}

    if "npz" in kind:
        save = np.savez_compressed if "compressed" in kind else np.savez
        save(tmp_path / "s.npz", x=np.concatenate([sample["x"] for sample in generate()]))
    elif kind == "folder":
        write_folder(tmp_path / "f", generate())
    source = {"folder": tmp_path / "f", "iterator": generate()}.get(kind, tmp_path / "s.npz")
    tracemalloc.start()
    calibration = opened(source, inputs=(big,))
    total = sum(float(sample["x"].sum()) for sample in calibration)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 0
    assert peak < 3_000_000


def test_synthetic_samples_say_so_and_split():
    calibration = synthesize([X], None, 8, seed=1)
    assert (calibration.source, len(calibration)) == ("synthetic", 8)
    first, held = calibration.split()
    assert (len(first), len(held)) == (4, 4)
    assert calibration.digest() == synthesize([X], None, 8, seed=1).digest()
    assert calibration.digest() != synthesize([X], None, 8, seed=2).digest()
