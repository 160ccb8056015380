"""Real files, their types, and what the classifier sees of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lwc.models import zoo
from lwc.models.tasks.magika import excerpt, features, find_typed_files, label_space, metric, samples, typed_files
from lwc.models.tasks.texts import in_split


def test_features_are_the_first_and_the_last_bytes_without_blanks_outside() -> None:
    seen = features(b" \n\tabc def \n")
    assert seen[:9].tolist() == list(b"abc def \n")
    assert seen[-10:].tolist() == list(b" \n\tabc def")
    assert set(seen[9:-10].tolist()) == {256}
    assert seen.shape == (2048,)
    assert seen.dtype == np.int32


def test_features_of_a_long_file_are_1024_bytes_of_each_end() -> None:
    content = bytes(range(256)) * 32
    seen = features(content)
    assert seen[:1024].tolist() == list(content[:1024])
    assert seen[1024:].tolist() == list(content[-1024:])


def test_blanks_are_stripped_only_within_the_first_4096_bytes() -> None:
    seen = features(b" " * 4096 + b"x" * 4096)
    assert set(seen[:1024].tolist()) == {256}
    assert set(seen[1024:].tolist()) == {ord("x")}


def test_an_excerpt_is_whole_lines_of_the_text() -> None:
    lines = [f"line {number:05d}\n".encode() for number in range(2000)]
    for seed in range(50):
        part = excerpt(b"".join(lines), np.random.default_rng(seed))
        assert part.startswith(b"line ")
        assert part.endswith(b"\n")
        assert set(part.splitlines(keepends=True)) <= set(lines)
        assert 1000 < len(part) < 8300 or part.endswith(lines[-1])


def make_tree(root: Path, count: int) -> Path:
    root.mkdir()
    for number in range(count):
        (root / f"part{number}.py").write_text("x = 1  # a line\n" * 200, encoding="utf-8")
        (root / f"part{number}.json").write_text("[1, 2, 3, 4, 5, 6]\n" * 200, encoding="utf-8")
        (root / f"part{number}.unknown").write_text("nobody knows\n" * 200, encoding="utf-8")
        (root / f"small{number}.c").write_text("int x;\n", encoding="utf-8")
    return root


def test_finds_files_of_known_types_that_are_not_too_small(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "a", 20)
    found = [*find_typed_files([root], "calibration"), *find_typed_files([root], "test")]
    assert Counter(file.type for file in found) == {"python": 20, "json": 20}


def test_puts_every_file_into_the_split_that_its_name_tells(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "a", 20)
    for split in ("calibration", "test"):
        names = [file.path.name for file in find_typed_files([root], split)]
        assert 0 < len(names) < 40
        assert all(in_split(name, split) for name in names)


def test_takes_no_type_too_often_even_from_several_folders(tmp_path: Path) -> None:
    roots = [make_tree(tmp_path / name, 100) for name in ("a", "b")]
    counts = Counter(file.type for file in find_typed_files(roots, "test"))
    assert counts == {"python": 32, "json": 32}


def test_gives_excerpts_of_long_programs_but_not_of_json(tmp_path: Path) -> None:
    parts = {file.type: file.parts for file in find_typed_files([make_tree(tmp_path / "a", 20)], "test")}
    assert parts["python"] > 1
    assert parts["json"] == 1


def test_scores_one_where_the_most_probable_type_is_the_true_one() -> None:
    outputs = {"target_label": np.array([[0.1, 0.7, 0.2]], dtype=np.float32)}
    assert metric(outputs, {"label": np.array([1])}) == 1.0
    assert metric(outputs, {"label": np.array([0])}) == 0.0


@pytest.mark.zoo
def test_every_sample_of_the_packages_has_a_type_that_the_classifier_knows() -> None:
    kinds = label_space()
    shown = list(samples(300, 1, "test"))
    assert len(shown) == 300
    assert shown[0]["bytes"].shape == (1, 2048)
    assert len({kinds[int(sample["label"][0])] for sample in shown}) > 35


@pytest.mark.zoo
def test_no_file_is_in_both_splits() -> None:
    calibration = {file.path for file in typed_files("calibration")}
    assert calibration
    assert not calibration & {file.path for file in typed_files("test")}


@pytest.mark.zoo
def test_the_real_model_tells_most_types() -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(zoo.path("magika"), providers=["CPUExecutionProvider"])
    scores = [
        metric({"target_label": session.run(["target_label"], {"bytes": sample["bytes"]})[0]}, sample)
        for sample in samples(200, 0, "test")
    ]
    assert 0.85 < np.mean(scores) < 0.99
