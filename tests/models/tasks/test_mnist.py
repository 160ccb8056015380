"""Real digits and their labels."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from lwc.models import zoo
from lwc.models.tasks.mnist import VARIANTS, alter, calibration, metric, normalize, read_digits, samples

RAMP = np.arange(16, dtype=np.uint8).reshape(4, 4)


def test_reads_pixels_row_by_row_and_the_label_last(tmp_path: Path) -> None:
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(gzip.compress(b"0,255,3,4,7\n9,8,7,6,1\n"))
    pictures, labels = read_digits(path)
    assert pictures.tolist() == [[[0, 255], [3, 4]], [[9, 8], [7, 6]]]
    assert labels.tolist() == [7, 1]


def test_inverted_and_rotated_pictures_hold_the_same_pixels_elsewhere() -> None:
    rng = np.random.default_rng(0)
    assert np.array_equal(alter(RAMP, "inverted", rng), 255 - RAMP)
    assert alter(RAMP, "rotated", rng)[0].tolist() == [3, 7, 11, 15]
    assert alter(RAMP, "plain", rng) is RAMP


def test_noise_depends_on_the_generator_alone_and_never_wraps_around() -> None:
    white = np.full((50, 50), 250, dtype=np.uint8)
    first = alter(white, "noisy", np.random.default_rng(1))
    assert np.array_equal(first, alter(white, "noisy", np.random.default_rng(1)))
    assert 195 < first.mean() < 245


def test_refuses_an_unknown_variant() -> None:
    with pytest.raises(ValueError, match="'upside'"):
        alter(RAMP, "upside", np.random.default_rng(0))


def test_normalizes_black_and_white_as_the_network_was_trained() -> None:
    values = normalize(np.array([[0, 255]], dtype=np.uint8))
    np.testing.assert_allclose(values, [[-0.42421296, 2.8214867]], rtol=1e-6)


def test_scores_one_where_the_highest_score_is_the_label() -> None:
    outputs = {"logits": np.array([[0.0, 3.0, 1.0]], dtype=np.float32)}
    assert metric(outputs, {"label": np.array([1])}) == 1.0
    assert metric(outputs, {"label": np.array([2])}) == 0.0


@pytest.mark.zoo
def test_shows_real_digits_of_all_ten_kinds() -> None:
    shown = list(calibration())
    assert len(shown) == 256
    assert shown[0]["x"].shape == (1, 1, 28, 28)
    assert shown[0]["x"].dtype == np.float32
    assert {int(sample["label"][0]) for sample in shown} == set(range(10))


@pytest.mark.zoo
def test_every_variant_shows_the_same_digits() -> None:
    labels = {variant: [int(s["label"][0]) for s in samples(20, 1, "test", variant)] for variant in VARIANTS}
    assert all(labels[variant] == labels["plain"] for variant in VARIANTS)


@pytest.mark.zoo
def test_the_real_model_reads_the_digits() -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(zoo.path("mnist-cnn"), providers=["CPUExecutionProvider"])
    scores = [
        metric({"logits": session.run(["logits"], {"x": sample["x"]})[0]}, sample) for sample in samples(400, 0, "test")
    ]
    assert np.mean(scores) > 0.985
