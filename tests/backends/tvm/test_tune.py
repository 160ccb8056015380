"""Tuning: where its time goes, what it keeps, what it survives."""

import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

pytest.importorskip("tvm")

import tvm

from lwc.backends.tvm.build import Tvm
from lwc.backends.tvm.database import Database, Record, place
from lwc.backends.tvm.fused import Fused
from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.kernels import NAME, agree, build, operands
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.race import Local
from lwc.backends.tvm.schedules import product_tile
from lwc.backends.tvm.schedules.conv_plan import Conv, Tile
from lwc.backends.tvm.schedules.int8 import Sums
from lwc.backends.tvm.schedules.int8_dot import Dot
from lwc.backends.tvm.schedules.product_tile import Sizes
from lwc.backends.tvm.schedules.sampled import Draw, drawn
from lwc.backends.tvm.tasks import Task, find_tasks, joined
from lwc.backends.tvm.testing import functions, graph
from lwc.backends.tvm.tile_blocks import Block, Product
from lwc.backends.tvm.tune import Gain, Tuner
from lwc.backends.tvm.tuning import tune_models
from lwc.backends.tvm.worker import Died, Worker
from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Silent
from lwc.compiler.core.target import NAMED, host

HERE = "place"


@dataclass(frozen=True)
class Width:
    of: int


WIDTHS = tuple(Width(of) for of in range(1, 21))


def small(rows: int) -> Sizes:
    return Sizes(rows, 8, 8)


class Fake:
    """Measures by a table of functions; every candidate takes a second of a clock of its own."""

    width = 4

    def __init__(self, seconds: Callable[[Any, Width], float | None]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.raced: list[tuple[Any, Width]] = []

    def race(self, signature: Any, candidates: Sequence[Width]) -> list[float | None]:
        self.now += len(candidates)
        self.raced += [(signature, each) for each in candidates[1:]]
        return [self.seconds(signature, each) for each in candidates]


def tune(fake: Any, tasks: Sequence[Task], budget: float, folder: Path) -> Gain:
    database = Database(folder)
    return Tuner(
        fake, HERE, lambda signature: database.records().get((HERE, signature)),
        lambda record: database.add([record]), Silent(), lambda: fake.now,
    ).tune(tasks, budget)  # fmt: skip


def task(rows: int = 1, count: int = 1) -> Task:
    return Task(small(rows), WIDTHS, WIDTHS[0], count)


def kept(folder: Path, rows: int = 1) -> Record:
    return Database(folder).records()[HERE, repr(small(rows))]


def to_best_at_7(signature: Any, width: Width) -> float:
    return 1.0 + abs(width.of - 7)


def test_finds_the_optimum(tmp_path: Path) -> None:
    gain = tune(Fake(to_best_at_7), [task()], 1000.0, tmp_path)
    assert kept(tmp_path) == Record(HERE, repr(small(1)), (7,), 1.0, 20)
    assert gain == Gain(7.0, 1.0, 19)


def test_each_candidate_is_tried_once(tmp_path: Path) -> None:
    fake = Fake(lambda signature, width: 1.0)
    assert tune(fake, [task()], 1000.0, tmp_path).tried == 19
    assert fake.raced == [(small(1), width) for width in WIDTHS[1:]]


def test_stops_when_the_time_is_over(tmp_path: Path) -> None:
    fake = Fake(lambda signature, width: 1.0)
    tune(fake, [task()], 8.0, tmp_path)
    assert 8.0 <= fake.now <= 8.0 + 1 + Fake.width
    assert kept(tmp_path).tried == len(fake.raced) + 1


def test_goes_on_where_the_last_run_stopped(tmp_path: Path) -> None:
    first, second = Fake(to_best_at_7), Fake(to_best_at_7)
    tune(first, [task()], 4.0, tmp_path)
    best = Width(*kept(tmp_path).choice)
    tune(second, [replace(task(), chosen=best)], 1000.0, tmp_path)
    raced = [width for _, width in (*first.raced, *second.raced)]
    assert set(raced) == set(WIDTHS[1:])
    assert not {width for _, width in second.raced if width.of < 4} - {best}
    assert kept(tmp_path).choice == (7,)


def test_a_busier_machine_does_not_hide_what_is_faster(tmp_path: Path) -> None:
    Database(tmp_path).add([Record(HERE, repr(small(1)), (1,), 0.5, 1)])
    tune(Fake(lambda signature, width: 10.0 * to_best_at_7(signature, width)), [task()], 1000.0, tmp_path)
    assert kept(tmp_path).choice == (7,)
    assert kept(tmp_path).seconds == pytest.approx(0.5 / 7)


def test_noise_is_no_gain(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    fake = Fake(lambda signature, width: 1.0 - 0.015 * noise.random())
    assert tune(fake, [task()], 1000.0, tmp_path).speedup == 1.0
    assert kept(tmp_path).choice == (1,)


def test_one_lucky_measurement_is_no_gain(tmp_path: Path) -> None:
    seen: set[Width] = set()

    def lucky_at_first(signature: Any, width: Width) -> float:
        fresh = width.of == 9 and width not in seen
        seen.add(width)
        return 0.5 if fresh else 1.0

    assert tune(Fake(lucky_at_first), [task()], 1000.0, tmp_path).speedup == 1.0


def test_failing_candidates_are_dropped(tmp_path: Path) -> None:
    fake = Fake(lambda signature, width: None if width.of in (5, 6, 8) else to_best_at_7(signature, width))
    tune(fake, [task()], 1000.0, tmp_path)
    assert kept(tmp_path).choice == (7,)


def test_a_kernel_that_fails_as_built_now_is_left_alone(tmp_path: Path) -> None:
    fake = Fake(lambda signature, width: None if signature == small(1) else to_best_at_7(signature, width))
    tune(fake, [task(1), task(2)], 1000.0, tmp_path)
    assert list(Database(tmp_path).records()) == [(HERE, repr(small(2)))]


def test_time_goes_where_the_time_is(tmp_path: Path) -> None:
    """Two kernels of the same work: one runs a hundred times as often."""
    fake = Fake(lambda signature, width: 1.0)
    rare, often = task(2), Task(Sizes(4, 4, 8), WIDTHS, WIDTHS[0], 100)
    tune(fake, [rare, often], 12.0, tmp_path)
    assert {signature for signature, _ in fake.raced} == {often.signature}


def test_time_goes_where_something_may_be_won(tmp_path: Path) -> None:
    """Two kernels of the same share: one computes ten times as much in its time."""
    fake = Fake(lambda signature, width: 1.0)
    tune(fake, [task(100), task(10)], 12.0, tmp_path)
    assert {signature for signature, _ in fake.raced} == {small(10)}


def test_control_c_keeps_what_was_found(tmp_path: Path) -> None:
    def interrupted(signature: Any, width: Width) -> float:
        if width.of == 10:
            raise KeyboardInterrupt
        return to_best_at_7(signature, width)

    gain = tune(Fake(interrupted), [task()], 1000.0, tmp_path)
    assert gain.interrupted
    assert gain.speedup == 7.0
    assert kept(tmp_path).choice == (7,)


def test_the_same_kernel_of_two_models_is_one_task() -> None:
    assert joined([task(1, 2), task(2), task(1, 3)]) == [task(1, 5), task(2)]


# Processes


def test_a_worker_that_dies_is_started_again() -> None:
    worker = Worker(1)
    for function, argument in ((os._exit, 3), (os.abort, None)):
        worker.submit(function, *([] if argument is None else [argument]))
        with pytest.raises(Died):
            worker.result(60.0)
    worker.submit(abs, -2)
    assert worker.result(60.0) == 2
    worker.close()


def test_a_worker_that_hangs_is_ended() -> None:
    worker = Worker(1)
    worker.submit(time.sleep, 3600)
    with pytest.raises(Died):
        worker.result(0.2)


# Real kernels

CONV = Conv(1, 6, 6, 8, 6, 6, 24, 3, 3, 1, 1, 1, 1, 1, 1, 1)
V3 = Machine.of(NAMED["cpu:x86-64-v3"])
needs_v3 = pytest.mark.skipif(not {"avx2", "fma"} <= host().features, reason="code for AVX2")


@dataclass(frozen=True)
class Crash:
    """A candidate that ends the process that receives it."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def computed(signature: Any, candidate: Any, machine: Machine) -> np.ndarray:
    inputs, out = operands(signature, candidate)
    tensors = [tvm.runtime.tensor(array) for array in (*inputs, out)]
    build(signature, candidate, machine, inputs).jit()[NAME](*tensors)
    return tensors[-1].numpy()


@needs_v3
@pytest.mark.parametrize(
    ("signature", "candidates"),
    [
        (CONV, [Tile(2, 1, 8), Tile(3, 2, 8), Tile(1, 3, 4)]),
        (Sizes(5, 30, 7), [product_tile.Tile(1, 1, 8), product_tile.Tile(3, 2, 8), product_tile.Tile(5, 2, 8)]),
    ],
)
def test_candidates_compute_the_same(signature: Any, candidates: Sequence[Any]) -> None:
    first, *others = (computed(signature, candidate, V3) for candidate in candidates)
    assert np.abs(first).max() > 1
    assert all(agree(first, other) for other in others)


@pytest.mark.skipif(not Machine.of(host()).tiles, reason="AMX")
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_blocks_compute_the_same(dtype: str) -> None:
    product = Product(5, 9, 24, 40, dtype, 3, 3, 2, 1)
    first, *others = (computed(product, Block(*sizes), Machine.of(host())) for sizes in ((8, 1, 2, 1), (3, 2, 1, 2)))
    assert np.abs(first).max() > 1
    assert all(agree(first, other) for other in others)


@pytest.mark.parametrize("place", [0, 100])
def test_one_wrong_value_is_noticed(place: int) -> None:
    right = np.random.default_rng(0).standard_normal(1000, np.float32) * 50
    wrong = right.copy()
    wrong[place] += 0.5
    assert agree(right, right * np.float32(1.000001))
    assert not agree(right, wrong)
    assert not agree(np.arange(9), np.arange(9) + (np.arange(9) == 3))


@pytest.mark.slow
@needs_v3
def test_a_crash_costs_its_candidate_alone() -> None:
    racer = Local(V3, 1)
    times = racer.race(CONV, [Tile(2, 1, 8), Crash(), Tile(3, 2, 8)])
    racer.close()
    assert [seconds is not None for seconds in times] == [True, False, True]


@needs_v3
def test_what_cannot_be_built_has_no_time() -> None:
    racer = Local(V3, 1)
    times = racer.race(CONV, [Tile(2, 1, 8), product_tile.Tile(1, 1, 8), Tile(3, 2, 8)])
    racer.close()
    assert [seconds is not None for seconds in times] == [True, False, True]


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture
def model() -> Model:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    return Model.from_proto(graph(nodes, (1, 8, 6, 6), weights(w=(16, 8, 3, 3), m=(16 * 36, 32))), "small")


def test_kernels_of_a_model_are_found_with_their_counts() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "v"], ["y"], pads=[1, 1, 1, 1]),
    ]
    proto = graph(nodes, (1, 8, 12, 12), weights(w=(8, 8, 3, 3), v=(8, 8, 3, 3)))
    (found,) = find_tasks(import_model(Model.from_proto(proto, "twice")), V3)
    assert found.count == 2
    assert found.signature == Conv(1, 12, 12, 8, 12, 12, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1)
    assert found.chosen == found.candidates[0]


def test_a_fused_function_is_known_by_what_it_computes_and_its_candidates_compute_the_same() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["c"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    given = weights(w=(8, 1, 3, 3), v=(8, 1, 3, 3))
    machine = Machine.of(host())
    (found,) = find_tasks(import_model(Model.from_proto(graph(nodes, (1, 8, 12, 12), given), "twice")), machine)
    assert isinstance(found.signature, Fused)
    assert Fused.of(pickle.loads(pickle.dumps(found.signature.func))) == found.signature
    assert len(repr(found.signature)) < 100  # it is a key of the database
    first, *others = (computed(found.signature, candidate, machine) for candidate in found.candidates[:4])
    assert np.abs(first).max() > 1
    assert all(agree(first, other) for other in others)


def test_a_function_that_no_rule_takes_is_sampled(tmp_path: Path) -> None:
    """What a draw wins is kept, and the next compile draws the same."""
    weight = weights(w=(8, 8, 3, 3, 3))
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 6)
    deep = Model.from_proto(graph([node], (1, 8, 6, 6, 16), weight), "deep")
    target = replace(host(), tuned=tmp_path)
    (found,) = find_tasks(import_model(deep), Machine.of(target))
    assert isinstance(found.signature, Fused)
    assert found.chosen == found.candidates[0] == Draw(0)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 8, 6, 6, 16), np.float32)}
    before = Tvm().session(deep, target).run(feeds)["y"]

    class EighthIsBest(Local):
        """Builds, runs and compares in truth."""

        def race(self, signature: Any, candidates: Sequence[Any]) -> list[float | None]:
            times = super().race(signature, candidates)
            return [
                seconds and 1.0 + abs(each.number - 8) for each, seconds in zip(candidates, times, strict=True)
            ]  # fmt: skip

    racer, database = EighthIsBest(Machine.of(target), 1), Database(tmp_path)
    cut = replace(found, candidates=found.candidates[:10])
    tuner = Tuner(racer, place(target), lambda _: None, lambda record: database.add([record]), Silent())
    assert tuner.tune([cut], 300.0).speedup == 9.0
    racer.close()
    (record,) = database.records().values()
    assert (record.signature, record.choice) == (repr(found.signature), (8,))
    machine = Machine.of(target)
    assert find_tasks(import_model(deep), machine)[0].chosen == Draw(8)
    again, twice = (drawn(found.signature.func, machine, 8) for _ in range(2))
    tvm.ir.assert_structural_equal(again, twice)
    (built,) = functions(deep.to_proto(), machine).values()
    assert built.script().count("T.parallel(") == again.script().count("T.parallel(") > 0
    assert "meta_schedule" in built.script()
    assert agree(before, Tvm().session(deep, target).run(feeds)["y"])


@pytest.mark.parametrize("shape", [(1, 1, 2, 2, 2), (1, 8, 1, 1, 16)])
def test_small_functions_are_not_sampled(shape: tuple[int, ...]) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 6)
    proto = graph([node], shape, weights(w=(1, shape[1], 3, 3, 3)))
    assert find_tasks(import_model(Model.from_proto(proto, "shallow")), Machine.of(host())) == []


@pytest.mark.parametrize(
    ("operators", "kind", "count"),
    [
        (["MatMul x k s", "Softmax s p", "MatMul p v y"], "Chunk", 3),
        (["Softmax x y"], "Partial", 4),
        (["Transpose x t", "MatMul t x y"], "Tile", 10),
    ],
)
def test_candidates_of_fused_functions_compute_the_same(operators: Sequence[str], kind: str, count: int) -> None:
    shape = (1, 4, 64, 256)
    given = weights(k=(1, 4, 256, 48), v=(1, 4, 48, 32)) if kind == "Chunk" else {}
    nodes = [helper.make_node(op, names[:-1], names[-1:]) for op, *names in map(str.split, operators)]
    if kind == "Tile":
        nodes[0].attribute.append(helper.make_attribute("perm", [0, 1, 3, 2]))
    machine = Machine.of(host())
    found = find_tasks(import_model(Model.from_proto(graph(nodes, shape, given), kind)), machine)
    (task,) = [each for each in found if type(each.chosen).__name__ == kind]
    assert len(task.candidates) >= count
    assert task.chosen == task.candidates[0]
    first, *others = (computed(task.signature, each, machine) for each in task.candidates[:count])
    assert np.abs(first).max() > 0
    assert all(agree(first, other) for other in others)


def test_tiles_of_bytes_compute_the_same() -> None:
    machine = replace(Machine.of(host()), tiles=False)
    dot = Dot.of(machine, "uint8")
    sums = Sums(Conv(1, 9, 9, 24, 7, 7, 40, 3, 3, 1, 1, 0, 0, 1, 1, 1), dot.data_type, dot.together)
    tiles = [Tile(2, 1, dot.lanes), Tile(3, 2, dot.lanes, 8), Tile(7, 1, dot.lanes, 16)]
    data = operands(sums, tiles[0])[0][0]
    first, *others = (computed(sums, tile, machine) for tile in tiles)
    assert all(np.array_equal(first, other) for other in others)
    random = np.random.default_rng(0)  # as operands drew them
    random.integers(0, 255, data.shape, "uint8", endpoint=True)
    kernel = random.integers(-128, 127, (40, 3, 3, 24), "int8", endpoint=True).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(data.astype(int), (3, 3), (1, 2))
    assert np.array_equal(first, np.einsum("nyxcij,oijc->nyxo", windows, kernel))


def test_another_epilogue_is_another_kernel() -> None:
    def digest(*operators: str) -> str:
        nodes = [helper.make_node("Conv", ["x", "w"], ["0"], group=8)]
        nodes += [helper.make_node(each, [str(k)], [str(k + 1)]) for k, each in enumerate(operators)]
        nodes[-1].output[0] = "y"
        proto = graph(nodes, (1, 8, 12, 12), weights(w=(8, 1, 3, 3)))
        (found,) = find_tasks(import_model(Model.from_proto(proto, "one")), Machine.of(host()))
        return repr(found.signature)

    assert digest("Relu") == digest("Relu")
    assert digest("Relu") != digest("Relu", "Neg")


def test_a_model_runs_as_before_with_what_tuning_found(tmp_path: Path, model: Model) -> None:
    target = replace(host(), tuned=tmp_path)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 8, 6, 6), np.float32)}
    before = Tvm().session(model, target).run(feeds)["y"]
    assert tune_models([model], target, 120.0, Silent()).tried > 0
    assert [signature.partition("(")[0] for signature, _ in Machine.of(target).tuned.choices] == ["Conv", "Sizes"]
    assert agree(before, Tvm().session(model, target).run(feeds)["y"])


def test_tuning_needs_a_place_to_keep_it(model: Model) -> None:
    with pytest.raises(UsageError, match="cache"):
        tune_models([model], host(), 1.0, Silent())


def test_another_machine_is_not_tuned_for_here(tmp_path: Path, model: Model) -> None:
    foreign = "cpu:aarch64" if host().arch == "x86-64" else "cpu:x86-64-v3"
    with pytest.raises(UsageError, match="cannot be measured here"):
        tune_models([model], replace(NAMED[foreign], tuned=tmp_path), 1.0, Silent())
