from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")

from lwc.backends.signature import Signature  # noqa: E402
from lwc.backends.tvm.export import activation_bytes, export, load  # noqa: E402
from lwc.backends.tvm.importer import import_model  # noqa: E402
from lwc.backends.tvm.machine import Machine  # noqa: E402
from lwc.backends.tvm.program import Program, compile_program  # noqa: E402
from lwc.backends.tvm.weights import ALIGNMENT  # noqa: E402
from lwc.compiler.core.errors import BadInput  # noqa: E402
from lwc.compiler.core.model import Model  # noqa: E402
from lwc.compiler.core.target import host  # noqa: E402
from lwc.models.tiny.text import graph  # noqa: E402

HERE = Machine.of(host())
CHAIN = """(float[8,64] x) => (float[8,64] y, float[8,24] z) <float[64,64] v, float[64,24] w, float[3] odd>
    { a = MatMul(x, v) b = Relu(a) c = MatMul(b, v) d = Tanh(c) y = MatMul(d, v) z = MatMul(d, w) }"""
X = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)


def model_of(text: str) -> Model:
    return Model(graph(text)(), "tiny")


def compiled(text: str) -> tuple[Program, Signature]:
    model = model_of(text)
    return compile_program(import_model(model), HERE), Signature.of(model)


def run(program: Program, *inputs: Any) -> list[Any]:
    _, main = program.start()
    results = main(*map(tvm.runtime.tensor, inputs))
    return [r.numpy() for r in ([results] if hasattr(results, "numpy") else results)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("stored")
    program, signature = compiled(CHAIN)
    assert export(program, signature, folder, HERE) == ("model.json", "model.so", "model.weights")
    return folder, run(program, X)


def copied(folder: Path, to: Path) -> Path:
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def edited(folder: Path, name: str = "model", **changes: Any) -> None:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_loaded_gives_the_same_bits(stored: tuple[Path, list[Any]]) -> None:
    folder, expected = stored
    program, signature = load(folder)
    assert [port.name for port in signature.outputs] == ["y", "z"]
    for have, want in zip(run(program, X), expected, strict=True):
        np.testing.assert_array_equal(have, want)


def test_weights_lie_beside_the_library_once_and_aligned(stored: tuple[Path, list[Any]]) -> None:
    folder, _ = stored
    places = json.loads((folder / "model.json").read_text())["weights"]
    sizes = sorted(4 * int(np.prod(shape)) for _, shape, _ in places)
    assert len(sizes) == 2  # v is read by three nodes
    assert sizes[0] >= 4 * 64 * 24
    assert sizes[1] == 4 * 64 * 64
    assert all(offset % ALIGNMENT == 0 for *_, offset in places)
    assert (folder / "model.weights").stat().st_size >= sum(sizes)


def test_a_program_without_weights_has_no_file_of_them(tmp_path: Path) -> None:
    program, signature = compiled("(float[4] x) => (float[4] y) <float[4] c> { y = Add(x, c) }")
    assert export(program, signature, tmp_path, HERE) == ("model.json", "model.so")
    x = np.ones(4, np.float32)
    np.testing.assert_array_equal(run(load(tmp_path)[0], x)[0], run(program, x)[0])


def test_programs_lie_side_by_side_under_their_names(tmp_path: Path) -> None:
    for k, op in enumerate(("Neg", "Abs")):
        export(*compiled(f"(float[4] x) => (float[4] y) {{ y = {op}(x) }}"), tmp_path, HERE, f"part{k}")
    x = np.full(4, -2, np.float32)
    assert [float(run(load(tmp_path, f"part{k}")[0], 2 * x + k)[0][0]) for k in range(2)] == [4.0, 3.0]


@pytest.mark.parametrize("name", ["model.json", "model.so", "model.weights"])
@pytest.mark.parametrize("cut", [None, 100])
def test_missing_and_short_files_are_refused(
    stored: tuple[Path, list[Any]], tmp_path: Path, name: str, cut: int | None
) -> None:
    path = copied(stored[0], tmp_path) / name
    content = path.read_bytes()
    path.unlink()
    if cut is not None:
        path.write_bytes(content[:cut])
    with pytest.raises(BadInput):
        load(tmp_path)


def test_a_weight_of_another_size_than_the_code_wants_is_refused(
    stored: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    folder = copied(stored[0], tmp_path)
    weights = json.loads((folder / "model.json").read_text())["weights"]
    edited(folder, weights=[[dtype, [*shape[:-1], shape[-1] // 2], offset] for dtype, shape, offset in weights])
    with pytest.raises(Exception, match="Mismatched"):
        run(load(folder)[0], X)


@pytest.mark.parametrize(
    ("processor", "word"),
    [
        ({"triple": "riscv64-linux-gnu", "flags": []}, "riscv64"),
        ({"triple": HERE.triple, "flags": ["no_such_instructions"]}, "no_such_instructions"),
    ],
)
def test_code_for_another_processor_is_refused_before_it_is_loaded(
    stored: tuple[Path, list[Any]], tmp_path: Path, processor: dict[str, Any], word: str
) -> None:
    folder = copied(stored[0], tmp_path)
    edited(folder, processor=processor)
    with pytest.raises(BadInput, match=word):
        load(folder)


def test_activations_share_memory_as_planned() -> None:
    program, _ = compiled(CHAIN)
    outputs, value = 4 * 8 * (64 + 24), 4 * 8 * 64
    assert program.activation_bytes is not None
    assert outputs + value <= program.activation_bytes < outputs + 4 * value


def test_activations_of_one_elementwise_function_are_its_output() -> None:
    assert compiled("(float[32,32] x) => (float[32,32] y) { r = Relu(x) y = Neg(r) }")[0].activation_bytes == 4096


def test_activations_of_open_shapes_are_not_known() -> None:
    model = model_of("(float[N,32] x) => (float[N,32] y) { r = Softmax(x) y = Neg(r) }")
    assert compile_program(import_model(model), HERE).activation_bytes is None


def test_activations_of_stored_programs_add_up(tmp_path: Path) -> None:
    for k in range(2):
        export(*compiled(f"(float[{k + 1},4] x) => (float[{k + 1},4] y) {{ y = Neg(x) }}"), tmp_path, HERE, f"part{k}")
    assert activation_bytes(tmp_path, ["part0", "part1"]) == 16 + 32
    edited(tmp_path, "part0", activation_bytes=None)
    assert activation_bytes(tmp_path, ["part0", "part1"]) is None
