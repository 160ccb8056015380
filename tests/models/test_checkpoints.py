"""Checkpoints are read without PyTorch, and never run."""

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lwc.compiler.core.errors import BadInput
from lwc.models.checkpoints import read_checkpoint, rebuild_tensor

GLOBALS = {"FloatStorage": "ctorch\nFloatStorage\n", "LongStorage": "ctorch\nLongStorage\n"}


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"J" + value.to_bytes(4, "little", signed=True) for value in values) + b"t"


def tensor(key: str, kind: str, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The pickle opcodes with which PyTorch writes one tensor (protocol 2)."""
    storage = b"(" + text("storage") + GLOBALS[kind].encode() + text(key) + text("cpu") + b"K\x06tQ"
    position = b"J" + offset.to_bytes(4, "little", signed=True)
    arguments = b"(" + storage + position + integers(size) + integers(stride) + b"\x89N" + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def state_dictionary(entries: dict[str, bytes]) -> bytes:
    items = b"".join(text(name) + value for name, value in entries.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def write_checkpoint(path: Path, pickled: bytes, storages: dict[str, bytes], order: bytes = b"little") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickled)
        archive.writestr("net/byteorder", order)
        for key, data in storages.items():
            archive.writestr(f"net/data/{key}", data)
    return path


def test_reads_tensors_with_offset_and_stride(tmp_path: Path) -> None:
    flat = np.arange(6, dtype="<f4")
    counts = np.array([7, 8], dtype="<i8")
    entries = {
        "plain": tensor("0", "FloatStorage", 0, (2, 3), (3, 1)),
        "turned": tensor("0", "FloatStorage", 0, (3, 2), (1, 3)),
        "tail": tensor("0", "FloatStorage", 4, (2,), (1,)),
        "steps": tensor("1", "LongStorage", 0, (2,), (1,)),
    }
    storages = {"0": flat.tobytes(), "1": counts.tobytes()}
    state = read_checkpoint(write_checkpoint(tmp_path / "a.pth", state_dictionary(entries), storages))
    np.testing.assert_array_equal(state["plain"], flat.reshape(2, 3))
    np.testing.assert_array_equal(state["turned"], flat.reshape(2, 3).T)
    np.testing.assert_array_equal(state["tail"], [4.0, 5.0])
    assert state["steps"].dtype == np.int64
    assert state["steps"].tolist() == [7, 8]


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("ran.txt", "w"))


def test_refuses_a_pickle_that_would_run_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_checkpoint(tmp_path / "a.pth", pickle.dumps({"w": Runs()}, protocol=2), {})
    with pytest.raises(BadInput, match=r"names _?io\.open"):
        read_checkpoint(path)
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(1, (6,), (1,)), (0, (2, 3), (4, 1)), (-1, (2,), (1,)), (0, (2,), (-1,))],
)
def test_refuses_a_tensor_that_reaches_outside_its_storage(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    entries = {"w": tensor("0", "FloatStorage", offset, size, stride)}
    path = write_checkpoint(tmp_path / "a.pth", state_dictionary(entries), {"0": bytes(24)})
    with pytest.raises(BadInput, match="reaches outside its storage"):
        read_checkpoint(path)


def test_refuses_a_storage_that_is_not_there(tmp_path: Path) -> None:
    entries = {"w": tensor("9", "FloatStorage", 0, (2,), (1,))}
    with pytest.raises(BadInput, match="data/9"):
        read_checkpoint(write_checkpoint(tmp_path / "a.pth", state_dictionary(entries), {}))


def test_refuses_big_endian_storage(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="big-endian"):
        read_checkpoint(write_checkpoint(tmp_path / "a.pth", state_dictionary({}), {}, order=b"big"))


def test_refuses_other_files(tmp_path: Path) -> None:
    noise, empty, other = tmp_path / "noise.pth", tmp_path / "empty.pth", tmp_path / "other.pth"
    noise.write_bytes(b"noise")
    zipfile.ZipFile(empty, "w").close()
    write_checkpoint(other, pickle.dumps(collections.OrderedDict(w=1), protocol=2), {})
    for path, reason in ((noise, "cannot|can be read"), (empty, "0 data.pkl"), (other, "flat dictionary")):
        with pytest.raises(BadInput, match=reason):
            read_checkpoint(path)


def test_refuses_a_truncated_pickle(tmp_path: Path) -> None:
    entries = {"w": tensor("0", "FloatStorage", 0, (2,), (1,))}
    path = write_checkpoint(tmp_path / "a.pth", state_dictionary(entries)[:-20], {"0": bytes(8)})
    with pytest.raises(BadInput, match="can be read"):
        read_checkpoint(path)


def test_a_tensor_is_a_copy_and_may_be_empty_or_a_scalar() -> None:
    storage = np.arange(4.0)
    copied = rebuild_tensor(storage, 0, (4,), (1,), False, None)
    copied[0] = 9.0
    assert storage[0] == 0.0
    assert rebuild_tensor(storage, 0, (0, 3), (3, 1)).shape == (0, 3)
    assert rebuild_tensor(storage, 2, (), ()) == 2.0


def test_agrees_with_pickles_made_by_hand() -> None:
    """The opcodes above are a real pickle: the standard unpickler walks through them."""
    stored = io.BytesIO(state_dictionary({"w": b"K\x01"}))
    assert pickle.load(stored) == collections.OrderedDict(w=1)
