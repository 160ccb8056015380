"""Drawing with pillow's own font: sizes, boxes, wear, and what reaches the network."""

import numpy as np
import pytest

pytest.importorskip("PIL")
from PIL import ImageFont

from lwc.models.tasks.drawing import (
    Ink,
    Page,
    Wear,
    draw_line,
    random_ink,
    scale_to_height,
    to_network,
    wear,
)
from lwc.models.tasks.splits import made_item_rng

BLACK_ON_WHITE = Ink((255, 255, 255), (0, 0, 0))


@pytest.fixture(scope="module")
def face() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(24)
    if not isinstance(font, ImageFont.FreeTypeFont):
        pytest.skip("pillow without FreeType")
    return font


def test_the_margin_around_the_ink_is_as_asked(face: ImageFont.FreeTypeFont) -> None:
    dark = draw_line("Hxg", face, BLACK_ON_WHITE, 5)[..., 0] < 128
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    height, width = dark.shape
    for space in (rows[0], height - 1 - rows[-1], columns[0], width - 1 - columns[-1]):
        assert 4 <= space <= 7


def test_a_written_line_is_where_its_box_says(face: ImageFont.FreeTypeFont) -> None:
    page = Page(200, BLACK_ON_WHITE)
    box = page.write("Hello", face, 40, 60)
    assert box is not None
    dark = page.picture()[..., 0] < 250
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert abs(np.array(box) - [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).max() <= 1
    assert abs(box[0] - 40) <= 2
    assert abs(box[1] - 60) <= 2


@pytest.mark.parametrize(("left", "top"), [(190, 60), (40, 195)])
def test_a_line_that_does_not_fit_leaves_the_page_clean(face: ImageFont.FreeTypeFont, left: int, top: int) -> None:
    page = Page(200, BLACK_ON_WHITE)
    assert page.write("Hello", face, left, top) is None
    assert (page.picture() == 255).all()


def test_wear_changes_the_picture_but_not_its_meaning(face: ImageFont.FreeTypeFont) -> None:
    picture = draw_line("Hello", face, BLACK_ON_WHITE, 5)
    worn = wear(picture, np.random.default_rng(0), Wear(blur=1.0, noise=10.0, jpeg=40))
    assert worn.shape == picture.shape
    assert worn.dtype == np.uint8
    difference = np.abs(worn.astype(int) - picture.astype(int)).mean()
    assert 0.5 < difference < 40.0


def test_paper_and_text_differ_clearly() -> None:
    rng = np.random.default_rng(0)
    inks = [random_ink(rng) for _ in range(100)]
    assert all(abs(sum(ink.paper) - sum(ink.text)) > 300 for ink in inks)
    assert 10 < sum(sum(ink.paper) < sum(ink.text) for ink in inks) < 45


def test_scaling_keeps_proportions_up_to_the_widest_width() -> None:
    picture = np.zeros((24, 100, 3), dtype=np.uint8)
    assert scale_to_height(picture, 48).shape == (48, 200, 3)
    assert scale_to_height(picture, 48, widest=192).shape == (48, 192, 3)


def test_the_network_gets_blue_first_in_minus_one_to_one_and_zeros_beside() -> None:
    picture = np.zeros((2, 3, 3), dtype=np.uint8)
    picture[..., 0] = 255
    x = to_network(picture, 5)
    assert x.shape == (1, 3, 2, 5)
    assert x.dtype == np.float32
    assert x[0, :, 0, 0].tolist() == [-1.0, -1.0, 1.0]
    assert (x[..., 3:] == 0).all()
    assert to_network(picture).shape == (1, 3, 2, 3)


def test_items_differ_by_task_seed_split_and_index_only() -> None:
    first = made_item_rng("a", 0, "test", 0).random()
    assert made_item_rng("a", 0, "test", 0).random() == first
    others = [("b", 0, "test", 0), ("a", 1, "test", 0), ("a", 0, "calibration", 0), ("a", 0, "test", 1)]
    assert all(made_item_rng(*key).random() != first for key in others)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split is 'train'"):
        made_item_rng("a", 0, "train", 0)
