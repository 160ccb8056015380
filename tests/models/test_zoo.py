"""The zoo: a table that pins every byte, samples that never mix their splits, scores as documented."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from lwc.compiler.core.errors import BadInput, MissingDependency, UsageError
from lwc.models import zoo
from lwc.models.packages import Package, file_digest
from lwc.models.zoo_table import LABELLED, MODELS, RANDOM_WEIGHTS, UNLABELLED, ZooModel

HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
SMALL_RANDOM = ("light-shufflenet", "light-squeezenet", "light-resnet50")

Run = Callable[[zoo.Sample], Mapping[str, Any]]


def test_every_entry_pins_its_bytes_and_names_a_licence() -> None:
    for model in MODELS:
        digests = [model.sha256, model.package.sha256, *(digest for _, digest in model.companions)]
        assert all(HEX_DIGEST.fullmatch(digest) for digest in digests), model.name
        assert model.licence, model.name


def test_names_are_distinct() -> None:
    assert len(set(zoo.names())) == len(MODELS) == 22


def test_every_task_of_the_table_has_a_module() -> None:
    folder = Path(zoo.__file__).parent / "tasks"
    assert all((folder / f"{model.task}.py").is_file() for model in LABELLED)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no model named 'resnet'") as caught:
        zoo.path("resnet")
    assert "ppocr-v4-rec" in caught.value.hint


def test_models_without_a_task_have_no_metric() -> None:
    assert [zoo.metric(model.name) for model in (*UNLABELLED, *RANDOM_WEIGHTS)] == [None] * 12
    with pytest.raises(UsageError, match="no task with labels for 'lac'"):
        zoo.score("lac", lambda item: item, iter(()))


@pytest.fixture
def tiny_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of one model, "tiny", whose package lies already unpacked in a cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "lwc" / "packages" / "tiny-1.0"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"model")
    (folder / "model.bin.data").write_bytes(b"data")
    entry = ZooModel(
        name="tiny",
        package=Package("tiny", "1.0", "0" * 64, "MIT"),
        file="model.bin",
        sha256=file_digest(folder / "model.bin"),
        task="tiny",
        companions=(("model.bin.data", file_digest(folder / "model.bin.data")),),
    )
    monkeypatch.setattr(zoo, "MODELS", (entry,))
    return folder


def test_path_gives_the_file_in_the_cache(tiny_zoo: Path) -> None:
    assert zoo.path("tiny") == tiny_zoo / "model.bin"


@pytest.mark.parametrize("name", ["model.bin", "model.bin.data"])
def test_path_refuses_a_changed_or_missing_file(tiny_zoo: Path, name: str) -> None:
    (tiny_zoo / name).write_bytes(b"changed")
    with pytest.raises(BadInput, match=f"{name} is not the pinned file") as caught:
        zoo.path("tiny")
    assert str(tiny_zoo) in caught.value.hint
    (tiny_zoo / name).unlink()
    with pytest.raises(BadInput, match=f"{name} is missing"):
        zoo.path("tiny")


def test_a_recipe_is_run_once(tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Path] = []

    def build(source: Path) -> onnx.ModelProto:
        runs.append(source)
        return onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))

    entry = ZooModel("made", zoo.get("tiny").package, "model.bin", zoo.get("tiny").sha256, recipe="anything")
    monkeypatch.setattr(zoo, "MODELS", (entry,))
    monkeypatch.setattr(zoo, "import_module", lambda name: SimpleNamespace(build=build))
    first = zoo.path("made")
    assert zoo.path("made") == first
    assert runs == [tiny_zoo / "model.bin"]
    assert onnx.load(first).graph.name == "g"
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_task_that_lacks_a_package_says_how_to_get_it(tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL")

    monkeypatch.setattr(zoo, "import_module", missing)
    with pytest.raises(MissingDependency, match="need the package PIL") as caught:
        zoo.samples("tiny", 1)
    assert "lwc-compiler[zoo]" in caught.value.hint


class Counted:
    """A metric as a class: how many outputs were right."""

    def __init__(self) -> None:
        self.right: list[bool] = []

    def update(self, outputs: Mapping[str, Any], sample: Mapping[str, Any]) -> None:
        self.right.append(bool(outputs["y"] == sample["label"]))

    def compute(self) -> float:
        return sum(self.right) / len(self.right)


@pytest.mark.parametrize("metric", [Counted, lambda outputs, sample: float(outputs["y"] == sample["label"])])
def test_score_takes_both_kinds_of_metric(tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch, metric: Any) -> None:
    def make(count: int, seed: int, split: str) -> Iterator[zoo.Sample]:
        return ({"x": np.array(i), "label": np.array(i % 2)} for i in range(count))

    module = SimpleNamespace(samples=make, metric=metric)
    monkeypatch.setattr(zoo, "import_module", lambda name: module)
    assert zoo.score("tiny", lambda item: {"y": np.array(0)}, zoo.samples("tiny", 4)) == 0.5


def runner(name: str) -> Run:
    """Plain float inference of one model on one thread."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(zoo.path(name)), options, providers=["CPUExecutionProvider"])
    inputs = {value.name for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]
    return lambda item: dict(
        zip(outputs, session.run(None, {key: item[key] for key in item.keys() & inputs}), strict=True)
    )


def same(first: zoo.Sample, second: zoo.Sample) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.zoo
@pytest.mark.parametrize("name", [model.name for model in (*LABELLED, *UNLABELLED)] + list(SMALL_RANDOM))
def test_the_model_runs_on_its_samples(name: str) -> None:
    run = runner(name)
    for item in zoo.samples(name, 3, split="test"):
        for array in run(item).values():
            assert array.size
            assert array.dtype.kind != "f" or np.isfinite(array).all()


@pytest.mark.zoo
@pytest.mark.parametrize("name", [model.name for model in (*LABELLED, *UNLABELLED)] + ["light-resnet50"])
def test_samples_depend_on_the_seed_alone_and_the_splits_do_not_meet(name: str) -> None:
    once, again = list(zoo.samples(name, 4)), list(zoo.samples(name, 4))
    assert len(once) == 4
    assert all(same(first, second) for first, second in zip(once, again, strict=True))
    tests = list(zoo.samples(name, 4, split="test"))
    assert not any(same(first, second) for first in once for second in tests)


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "count", "low", "high"),
    [
        ("ppocr-v4-rec", 100, 0.97, 1.0),
        ("ppocr-v4-det", 12, 0.87, 0.98),
        ("ppocr-cls", 200, 0.93, 0.99),
        ("mnist-cnn", 200, 0.98, 1.0),
    ],
)
def test_the_float_model_scores_as_documented(name: str, count: int, low: float, high: float) -> None:
    assert low <= zoo.score(name, runner(name), zoo.samples(name, count, split="test")) <= high
