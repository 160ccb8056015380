"""What is kept between runs."""

from pathlib import Path

import numpy as np

from lwc.compiler.core.cache import Cache
from lwc.compiler.recover.state import State, load, save


def test_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    weights = {"a/b:0": np.arange(3.0, dtype=np.float32), "meta": np.ones((2, 2), np.float32)}
    save(Cache(tmp_path), "key", State(12.5, True, weights))
    found = load(Cache(tmp_path), "key")
    assert (found.seconds, found.finished) == (12.5, True)
    assert {name: array.tolist() for name, array in found.weights.items()} == {
        name: array.tolist() for name, array in weights.items()
    }


def test_other_keys_and_damaged_files_are_fresh(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    save(cache, "key", State(1.0))
    assert load(cache, "other") == State()
    path = cache.path("recover", "key", ".npz")
    assert path is not None
    path.write_bytes(path.read_bytes()[:40])
    assert load(cache, "key") == State()


def test_without_a_folder_nothing_is_kept() -> None:
    save(Cache(None), "key", State(1.0))
    assert load(Cache(None), "key") == State()
