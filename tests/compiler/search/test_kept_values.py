import os

import ml_dtypes
import numpy as np

from lwc.compiler.search.kept_values import KeptValues


def test_what_does_not_fit_lies_on_disk_and_reads_back_the_same() -> None:
    kept = KeptValues(100)
    arrays = {"a": np.arange(20, dtype=np.float32), "b": np.arange(40, dtype=ml_dtypes.bfloat16)}
    kept.put(0, arrays)
    kept.put(1, {"a": arrays["a"] + 1, "b": arrays["b"][:3]})
    found = kept.get(0, ["a", "b"])
    assert all(
        found[name].dtype == array.dtype and np.array_equal(found[name], array) for name, array in arrays.items()
    )
    assert kept.shapes("b") == [(40,), (3,)]
    assert kept._folder is not None
    kept.close()


def test_what_is_forgotten_makes_room() -> None:
    kept = KeptValues(100)
    kept.put(0, {"a": np.zeros(20, np.float32)})
    kept.only(["b"])
    assert "a" not in kept
    kept.put(0, {"b": np.zeros(20, np.float32)})
    assert kept._folder is None


def test_closing_removes_the_folder() -> None:
    kept = KeptValues(0)
    kept.put(0, {"a": np.zeros(3)})
    assert kept._folder is not None
    folder = kept._folder.name
    kept.close()

    assert not os.path.exists(folder)
