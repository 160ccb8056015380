"""The database of tuned kernels: what is in it, whoever wrote it and however that ended."""

import multiprocessing
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.database import FILE, Database, Record, place
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.tuned import Tuned
from lwc.compiler.core.target import NAMED

V3, V4 = NAMED["cpu:x86-64-v3"], NAMED["cpu:x86-64-v4"]


def record(signature: str = "a", choice: tuple[int, ...] = (1, 2), seconds: float = 1.0, tried: int = 1) -> Record:
    return Record(place(V4), signature, choice, seconds, tried)


def found(database: Database) -> dict[str, Record]:
    return {each.signature: each for each in database.records().values()}


def test_what_was_added_is_found_by_another_object(tmp_path: Path) -> None:
    Database(tmp_path / "new").add([record("a"), record("b", (3,))])
    assert found(Database(tmp_path / "new")) == {"a": record("a"), "b": record("b", (3,))}


def test_nothing_is_known_where_there_is_no_file(tmp_path: Path) -> None:
    assert Database(tmp_path / "none").records() == {}
    assert not (tmp_path / "none").exists()


def test_the_fastest_wins_whatever_the_order(tmp_path: Path) -> None:
    slow, fast = record(choice=(1,), seconds=2.0, tried=9), record(choice=(2,), seconds=1.0, tried=3)
    for name, order in (("one", [slow, fast]), ("other", [fast, slow])):
        for each in order:
            Database(tmp_path / name).add([each])
        assert found(Database(tmp_path / name)) == {"a": replace(fast, tried=9)}


def test_merging_is_the_union(tmp_path: Path) -> None:
    ours, theirs = Database(tmp_path / "ours"), Database(tmp_path / "theirs")
    ours.add([record("a", seconds=1.0), record("b", (1,), 5.0)])
    theirs.add([record("b", (2,), 4.0), record("c")])
    ours.merge(theirs)
    assert found(ours) == {"a": record("a"), "b": record("b", (2,), 4.0), "c": record("c")}
    size = (tmp_path / "ours" / FILE).stat().st_size
    ours.merge(theirs)
    assert (tmp_path / "ours" / FILE).stat().st_size == size


@pytest.mark.parametrize("lost", [1, 5, 40])
def test_a_line_cut_off_costs_itself_alone(tmp_path: Path, lost: int) -> None:
    database = Database(tmp_path)
    database.add([record("a")])
    database.add([record("b")])
    file = tmp_path / FILE
    os.truncate(file, file.stat().st_size - 1 - lost)
    assert set(found(database)) == {"a"}
    database.add([record("c")])
    assert set(found(database)) == {"a", "c"}


def test_a_changed_digit_is_noticed(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.add([record("a", (16, 2)), record("b")])
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes().replace(b"[16, 2]", b"[15, 2]"))
    assert set(found(database)) == {"b"}


def test_a_file_of_noise_is_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(bytes(range(256)) * 10)
    database = Database(tmp_path)
    assert database.records() == {}
    database.add([record()])
    assert set(found(database)) == {"a"}


def write(folder: Path, name: str) -> None:
    for number in range(100):
        Database(folder).add([record(f"{name}{number}")])


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(tmp_path, name)) for name in "xy"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert set(found(Database(tmp_path))) == {f"{name}{number}" for name in "xy" for number in range(100)}


def test_a_target_finds_what_was_measured_on_it_alone(tmp_path: Path) -> None:
    Database(tmp_path).add([record("a", (7,))])
    assert Machine.of(replace(V4, tuned=tmp_path)).tuned == Tuned((("a", (7,)),))
    assert Machine.of(replace(V3, tuned=tmp_path)).tuned == Tuned()
    assert Machine.of(V4).tuned == Tuned()


def test_the_folder_is_no_part_of_what_a_target_is(tmp_path: Path) -> None:
    assert replace(V4, tuned=tmp_path).fingerprint == V4.fingerprint


@dataclass(frozen=True)
class Width:
    of: int


def test_a_candidate_measured_fastest_goes_before_estimates() -> None:
    widths = [Width(1), Width(2), Width(3)]
    assert Tuned((("'kernel'", (2,)),)).best("kernel", widths, lambda width: width.of) == Width(2)


def test_a_choice_that_is_no_candidate_any_more_is_ignored() -> None:
    assert Tuned((("'kernel'", (9,)),)).best("kernel", [Width(5), Width(4)], lambda width: width.of) == Width(4)
