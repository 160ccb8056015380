"""The trained digits models and their samples."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from lwc.compiler.core.errors import MissingDependency, UsageError
from lwc.models import digits

KINDS = pytest.mark.parametrize("kind", digits.KINDS)


def _session(kind: digits.Kind) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(digits.path(kind), options, providers=["CPUExecutionProvider"])


@KINDS
def test_classifies_98_percent_of_the_held_out_digits(kind: digits.Kind) -> None:
    images, labels = digits.arrays("test")
    logits = _session(kind).run(None, {"x": images})[0]
    assert logits.shape == (599, 10)
    assert np.mean(logits.argmax(axis=1) == labels) >= 0.98


@KINDS
def test_takes_a_batch_of_any_size(kind: digits.Kind) -> None:
    images, _ = digits.arrays("test")
    session = _session(kind)
    together = session.run(None, {"x": images[:3]})[0]
    apart = np.concatenate([session.run(None, {"x": image[None]})[0] for image in images[:3]])
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-4)


@KINDS
def test_is_a_checked_model_under_one_megabyte(kind: digits.Kind) -> None:
    assert digits.path(kind).stat().st_size < 1_000_000
    onnx.checker.check_model(onnx.load(digits.path(kind)), full_check=True)


def test_the_cnn_has_depthwise_and_residual_blocks() -> None:
    graph = onnx.load(digits.path("cnn")).graph
    groups = [attribute.i for node in graph.node for attribute in node.attribute if attribute.name == "group"]
    assert max(groups) > 1
    assert Counter(node.op_type for node in graph.node)["Add"] >= 3


def test_the_parts_share_no_image() -> None:
    train, test = ({image.tobytes() for image in digits.arrays(split)[0]} for split in ("calibration", "test"))
    assert len(train) == 1198
    assert len(test) == 599
    assert not train & test


def test_a_sample_is_one_image_with_its_label() -> None:
    images, labels = digits.arrays("test")
    sample = digits.samples("test")[7]
    assert sample["x"].shape == (1, 1, 32, 32)
    assert sample["x"].dtype == np.float32
    np.testing.assert_array_equal(sample["x"][0], images[7])
    assert sample["label"].shape == ()
    assert sample["label"].dtype == np.int64
    assert sample["label"] == labels[7]


def test_calibration_gives_the_training_part() -> None:
    given = [int(sample["label"]) for sample in digits.calibration()]
    assert given == digits.arrays("calibration")[1].tolist()
    assert min(Counter(given).values()) > 100


def test_enlarging_keeps_the_corners_and_interpolates_between() -> None:
    pixels = np.zeros((1, 8, 8), dtype=np.float32)
    pixels[0, 0, 0], pixels[0, 7, 7], pixels[0, :, 4] = 1.0, 0.5, 1.0
    image = digits.enlarge(pixels)[0, 0]
    black = digits.enlarge(np.zeros((1, 8, 8), dtype=np.float32))[0, 0]
    light = (image - black) / (digits.enlarge(np.ones((1, 8, 8), dtype=np.float32))[0, 0] - black)
    np.testing.assert_allclose([light[0, 0], light[31, 31]], [1.0, 0.5], atol=1e-6)
    # column 18 lies at 18 * 7 / 31 = 4.0645: the weight of column 4 is 0.9355
    np.testing.assert_allclose(light[16, 18], 1 - (18 * 7 / 31 - 4), atol=1e-6)


def test_enlarged_training_images_are_normalized() -> None:
    images, _ = digits.arrays("calibration")
    assert abs(images.mean()) < 0.01
    assert abs(images.std() - 1) < 0.01


def test_names_the_kinds_when_asked_for_another() -> None:
    with pytest.raises(UsageError, match="cnn, transformer, gru"):
        digits.path("mlp")  # type: ignore[arg-type]


def test_names_the_splits_when_asked_for_another() -> None:
    with pytest.raises(UsageError, match="calibration or test"):
        digits.samples("train")  # type: ignore[arg-type]


def test_says_what_to_install_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits._load.cache_clear()
    with pytest.raises(MissingDependency, match=r"lwc-compiler\[zoo\]"):
        digits.samples("test")
