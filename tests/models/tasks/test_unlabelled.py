"""Plausible inputs for models without labels."""

import numpy as np
import pytest

pytest.importorskip("PIL")
from lwc.compiler.core.errors import UsageError
from lwc.models.tasks.unlabelled import khmer_letters, picture, samples


def test_pictures_have_natural_spectra() -> None:
    drawn = picture(np.random.default_rng(0), 128)
    assert drawn.shape == (3, 128, 128)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0.0
    assert drawn.max() <= 1.0
    spectrum = np.abs(np.fft.fft2(drawn[0] - drawn[0].mean()))
    assert spectrum[0, 4] + spectrum[4, 0] > 3 * (spectrum[0, 32] + spectrum[32, 0])
    assert np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1] > 0.5


def test_khmer_letters_favour_low_numbers_and_fill_the_mask() -> None:
    rng = np.random.default_rng(0)
    items = [khmer_letters(rng) for _ in range(50)]
    letters = np.concatenate([item["x"][0] for item in items])
    assert letters.min() >= 2
    assert letters.max() <= 125
    assert np.median(letters) < 30
    assert all(item["mask"].all() and item["mask"].shape == item["x"].shape for item in items)


def test_pictures_of_light_models_go_to_their_input() -> None:
    (resnet,) = samples("light-resnet50", 1)
    (vgg,) = samples("light-vgg19", 1)
    assert resnet["gpu_0/data_0"].shape == vgg["data_0"].shape == (1, 3, 224, 224)


def test_a_model_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="'magika'"):
        next(samples("magika", 1))
