"""The runner in C++ against Python: the same folders, the same outputs, errors as sentences with their exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

tvm = pytest.importorskip("tvm")
tvm_ffi = pytest.importorskip("tvm_ffi")

import lwc  # noqa: E402
from lwc.backends.onnxruntime.build import OnnxRuntime  # noqa: E402
from lwc.backends.signature import Signature  # noqa: E402
from lwc.backends.tvm.bundle import FOLDER, RUNNER, build_runner, bundle  # noqa: E402
from lwc.backends.tvm.export import activation_bytes, export  # noqa: E402
from lwc.backends.tvm.importer import import_model  # noqa: E402
from lwc.backends.tvm.machine import Machine  # noqa: E402
from lwc.backends.tvm.program import compile_program  # noqa: E402
from lwc.backends.tvm.toolchain import find_toolchain, is_native  # noqa: E402
from lwc.compiler import driver  # noqa: E402
from lwc.compiler.core.errors import MissingDependency  # noqa: E402
from lwc.compiler.core.model import Model  # noqa: E402
from lwc.compiler.core.target import NAMED, Target, host  # noqa: E402
from lwc.compiler.testing import FP32, disagreement  # noqa: E402
from lwc.models.tiny.text import graph  # noqa: E402

TEXT = """(float[1,3,12,12] x, int64[2,3] i, float16[4] h, bool[2,3] q)
    => (float[1,16,12,12] y, int64[2,3] j, float16[4] g, bool[2,3] b) <float[16,3,3,3] w, float[16] c> {
    k = Conv <pads = [1,1,1,1]> (x, w, c) y = Relu(k) j = Add(i, i) g = Neg(h) b = Not(q) }"""
RNG = np.random.default_rng(0)
FEEDS: dict[str, Any] = {
    "x": RNG.standard_normal((1, 3, 12, 12)).astype(np.float32),
    "i": RNG.integers(-9, 9, (2, 3)),
    "h": RNG.standard_normal(4).astype(np.float16),
    "q": RNG.integers(0, 2, (2, 3)).astype(bool),
}
BAD_INPUT, USAGE = 3, 2
ARM = Machine.of(NAMED["cpu:aarch64"]).triple


@dataclass(frozen=True)
class Runner:
    """command: what starts it;  model: a folder that it can run"""

    command: tuple[str, ...]
    model: Path

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*self.command, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def refuses(self, code: int, *arguments: object) -> str:
        """The sentence on stderr, where it ends with this code and one line that says why."""
        done = self(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), done
        found = re.fullmatch(r"Error: (.+)\n", done.stderr)
        assert found, done.stderr
        return found[1]


def stored(folder: Path, target: Target, text: str = TEXT) -> Path:
    model = Model(graph(text)(), "tiny")
    machine = Machine.of(target)
    export(compile_program(import_model(model), machine), Signature.of(model), folder, machine)
    return folder


def reference() -> dict[str, Any]:
    return OnnxRuntime().session(Model(graph(TEXT)(), "tiny"), host()).run(FEEDS)


def saved(path: Path, arrays: dict[str, Any] = FEEDS) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The runner built against the two libraries alone, in a folder of their own."""
    folder = tmp_path_factory.mktemp("runner")
    for library in (tvm.libinfo.find_libtvm_runtime(), tvm_ffi.libinfo.find_libtvm_ffi()):
        (folder / Path(library).name).symlink_to(library)
    try:
        build_runner(find_toolchain(Machine.of(host()).triple), folder, folder / RUNNER)
        return Runner((str(folder / RUNNER),), stored(tmp_path_factory.mktemp("model"), host()))
    except MissingDependency as error:
        pytest.skip(str(error))


def test_what_sorts_is_loaded_where_it_is_there(run: Runner, tmp_path: Path) -> None:
    text = "(float[1,8] x) => (float[1,3] y, int64[1,3] i) <int64[1] k = {3}> { y, i = TopK(x, k) }"
    model = stored(tmp_path, host(), text)
    x = np.arange(8, dtype=np.float32)[None]
    arguments = (model, "--input", saved(tmp_path / "in.npz", {"x": x}), "--output", tmp_path / "out.npz")
    assert "sort" in run.refuses(BAD_INPUT, *arguments)
    extra = Path(run.command[0]).parent / "libtvm_runtime_extra.so"
    extra.symlink_to(Path(tvm.libinfo.find_libtvm_runtime()).with_name(extra.name))
    try:
        assert run(*arguments).returncode == 0
    finally:
        extra.unlink()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["i"], [[7, 6, 5]])


def test_functions_that_tvm_has_in_python_alone_are_named(run: Runner, tmp_path: Path) -> None:
    stored(tmp_path, host(), "(bool[4] x) => (int64[1,n] y) { y = NonZero(x) }")
    assert "nonzero" in run.refuses(BAD_INPUT, tmp_path)


def copied(folder: Path, to: Path) -> Path:
    for path in folder.iterdir():
        shutil.copy(path, to / path.name)
    return to


def test_outputs_are_those_of_onnxruntime(run: Runner, tmp_path: Path) -> None:
    done = run(run.model, "--input", saved(tmp_path / "in.npz"), "--output", tmp_path / "out.npz")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    outputs = np.load(tmp_path / "out.npz")
    assert list(outputs) == ["y", "j", "g", "b"]
    for name, expected in reference().items():
        assert not disagreement(expected, outputs[name], FP32 if name == "y" else None)


def test_raw_bytes_are_the_inputs_in_order(run: Runner, tmp_path: Path) -> None:
    raw = tmp_path / "in.bin"
    raw.write_bytes(b"".join(FEEDS[name].tobytes() for name in "xihq"))
    run(run.model, "--input", raw, "--output", tmp_path / "a.npz")
    run(run.model, "--input", saved(tmp_path / "in.npz"), "--output", tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    raw.write_bytes(raw.read_bytes()[:-1])
    assert "bytes" in run.refuses(BAD_INPUT, run.model, "--input", raw)


def npy(array: Any, version: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), version=version)
    return stream.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("comment", [b"", b"PK\x05\x06" * 30])
def test_archives_of_all_versions_are_read(
    run: Runner, tmp_path: Path, version: tuple[int, int], comment: bytes
) -> None:
    with zipfile.ZipFile(tmp_path / "in.npz", "w") as archive:
        archive.writestr("label.npy", npy(np.arange(5, dtype=np.int16), version))
        for name in "qhix":
            archive.writestr(f"{name}.npy", npy(FEEDS[name], version))
        archive.comment = comment
    run(run.model, "--input", tmp_path / "in.npz", "--output", tmp_path / "a.npz")
    run(run.model, "--input", saved(tmp_path / "plain.npz"), "--output", tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": None}, "no array for the input 'x'"),
        ({"x": np.ones((1, 3, 12, 11), np.float32)}, "[1, 3, 12, 11]"),
        ({"x": np.ones((3, 12, 12), np.float32)}, "[3, 12, 12]"),
        ({"x": np.ones((1, 3, 12, 12))}, "float64"),
        ({"x": np.ones((1, 3, 12, 12), ">f4")}, ">f4"),
        ({"x": np.asfortranarray(FEEDS["x"])}, "Fortran"),
        ({"x": np.ones((1, 3, 12, 12), "f4,f4")}, "fields"),
        ({"x": np.array("text")}, "<U4"),
    ],
)
def test_arrays_that_do_not_fit_are_named(run: Runner, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    arrays = {name: array for name, array in {**FEEDS, **change}.items() if array is not None}
    assert words in run.refuses(BAD_INPUT, run.model, "--input", saved(tmp_path / "in.npz", arrays))


def test_compressed_archives_are_refused_with_the_way_out(run: Runner, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "in.npz", **FEEDS)
    assert "numpy.savez" in run.refuses(BAD_INPUT, run.model, "--input", tmp_path / "in.npz")


def test_damaged_archives_are_refused(run: Runner, tmp_path: Path) -> None:
    content = saved(tmp_path / "whole.npz").read_bytes()
    damaged = [content[: len(content) * k // 12] for k in range(12)]
    for place in (content.rindex(b"PK\x05\x06") + 16, content.index(b"PK\x01\x02") + 42, content.index(b"shape") + 8):
        damaged.append(content[:place] + b"\x77" * 4 + content[place + 4 :])
    for piece in damaged:
        (tmp_path / "in.npz").write_bytes(piece)
        run.refuses(BAD_INPUT, run.model, "--input", tmp_path / "in.npz")


@pytest.mark.parametrize("name", ["model.json", "model.so", "model.weights"])
@pytest.mark.parametrize("cut", [None, 0, 100])
def test_missing_and_short_files_of_a_model_are_refused(
    run: Runner, tmp_path: Path, name: str, cut: int | None
) -> None:
    path = copied(run.model, tmp_path) / name
    content = path.read_bytes()
    path.unlink()
    if cut is not None:
        path.write_bytes(content[:cut])
    assert name in run.refuses(BAD_INPUT, tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("model.json", {"processor": {"triple": "riscv64-linux-gnu", "flags": []}}, "riscv64"),
        ("model.json", {"processor": {"triple": Machine.of(host()).triple, "flags": ["no_such"]}}, "no_such"),
        ("parts.json", {"variants": []}, "--shape"),
        ("parts.json", {"variants": [{"shapes": [], "parts": ["model", "model.1.onnx"]}]}, "ONNX Runtime"),
    ],
)
def test_models_that_it_cannot_run_are_refused(
    run: Runner, tmp_path: Path, name: str, changes: dict[str, Any], words: str
) -> None:
    path = copied(run.model, tmp_path) / name
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**data, **changes}))
    assert words in run.refuses(BAD_INPUT, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a", "b"],
        ["a", "--no-such-option"],
        ["a", "--input"],
        ["a", "--threads", "none"],
        ["a", "--threads", "0"],
        ["a", "--bench", "0"],
    ],
)
def test_wrong_options_are_named(run: Runner, arguments: Sequence[str]) -> None:
    run.refuses(USAGE, *arguments)


def test_an_output_that_cannot_be_written_is_named(run: Runner, tmp_path: Path) -> None:
    assert "no_folder" in run.refuses(BAD_INPUT, run.model, "--output", tmp_path / "no_folder" / "out.npz")


def test_latency_is_of_as_many_threads_as_are_asked_for(run: Runner) -> None:
    form = r"median \S+ ms, p90 \S+ ms, \d+ runs, {} threads\n"
    assert re.fullmatch(form.format(3), run(run.model, "--bench", "0.05", "--threads", 3).stdout)
    allowed = len(os.sched_getaffinity(0))
    threads = os.environ.get("TVM_NUM_THREADS", str(allowed))
    assert re.fullmatch(form.format(threads), run("--bench", "0.05", run.model).stdout)


@pytest.fixture
def emulator() -> tuple[str, ...]:
    """What runs programs for aarch64 here."""
    program, system = shutil.which("qemu-aarch64"), Path("/usr/aarch64-linux-gnu")
    if is_native(ARM) or program is None or not system.is_dir():
        pytest.skip("needs qemu-user and the C library of Debian's cross compiler, on another processor")
    return (program, "-L", str(system))


@pytest.mark.slow
@pytest.mark.parametrize("zig", [False, True])
def test_a_folder_for_another_processor_runs_under_emulation(
    emulator: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zig: bool
) -> None:
    if zig:
        monkeypatch.setenv("PATH", str(tmp_path))
    try:
        stored(tmp_path, NAMED["cpu:aarch64"])
        bundle(tmp_path, ARM)
    except MissingDependency as error:
        pytest.skip(str(error))
    assert sum(path.stat().st_size for path in (tmp_path / FOLDER).iterdir()) <= 12_000_000
    run = Runner((*emulator, str(tmp_path / FOLDER / RUNNER)), tmp_path)
    done = run(tmp_path, "--input", saved(tmp_path / "in.npz"), "--output", tmp_path / "out.npz")
    assert (done.returncode, done.stderr) == (0, "")
    for name, expected in reference().items():
        assert not disagreement(expected, np.load(tmp_path / "out.npz")[name], FP32 if name == "y" else None)


@pytest.mark.slow
def test_a_model_compiled_for_another_processor_is_kept_whatever_its_speed_here(
    emulator: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LEAST_SPEEDUP_OF_PLAN", "LEAST_SPEEDUP_OF_CLEAN"):
        monkeypatch.setattr(driver, name, 1e9)
    onnx.save(Model(graph(TEXT)(), "tiny").to_proto(), tmp_path / "m.onnx")
    try:
        artifact = lwc.compile(
            tmp_path / "m.onnx", tmp_path / "m.lwc", backend="tvm", target="cpu:aarch64", cache=tmp_path / "cache"
        )
    except MissingDependency as error:
        pytest.skip(str(error))
    assert artifact.report.backend == "tvm"
    assert artifact.report.memory["planned_activations_mb"] == activation_bytes(artifact.folder, ["model"]) / 1e6
    run = Runner((*emulator, str(artifact.folder / FOLDER / RUNNER)), artifact.folder)
    assert run(artifact.folder, "--output", tmp_path / "out.npz").returncode == 0
    assert list(np.load(tmp_path / "out.npz")) == list(reference())
