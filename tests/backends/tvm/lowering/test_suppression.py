import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import assert_agrees, model
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model

TEXT = """agraph (float[2, 6, 4] boxes, float[2, 2, 6] scores{inputs}) => (int64[n, 3] y)
<{most}float overlap = {{{overlap}}}, float least = {{{least}}}> {{
    y = NonMaxSuppression <center_point_box = {centre}> (boxes, scores, most, overlap, least)
}}"""
CORNERS = [[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1], [0, 0.5, 1, 1.5]]
FEEDS = {
    "boxes": np.array([CORNERS, CORNERS[::-1]], np.float32),
    "scores": np.random.default_rng(0).permutation(24).reshape(2, 2, 6).astype(np.float32) / 24,
}


@pytest.mark.parametrize("most", [1, 3, 9])
@pytest.mark.parametrize(("overlap", "least"), [(0.5, 0.0), (0.3, 0.4), (0.99, 0.2)])
@pytest.mark.parametrize("centre", [0, 1])
def test_boxes_of_several_images_and_classes(most: int, overlap: float, least: float, centre: int) -> None:
    text = TEXT.format(inputs="", most=f"int64 most = {{{most}}}, ", overlap=overlap, least=least, centre=centre)
    assert_agrees(text, FEEDS)


def test_a_box_that_overlaps_just_as_much_as_is_allowed_is_kept() -> None:
    halves = [[0, 0, 1, 1], [0, 0, 1, 0.5], [3, 3, 4, 4], [3, 3, 4, 3.5], [6, 6, 7, 7], [6, 6, 7, 6.25]]
    feeds = {**FEEDS, "boxes": np.array([halves, halves], np.float32)}
    text = TEXT.format(inputs="", most="int64 most = {6}, ", overlap=0.5, least=0.0, centre=0)
    assert_agrees(text, feeds)


def test_how_many_are_kept_must_be_known() -> None:
    proto = model(TEXT.format(inputs=", int64 most", most="", overlap=0.5, least=0.0, centre=0))
    with pytest.raises(UnsupportedOperator, match="how many boxes it keeps must be constant"):
        import_model(Model.from_proto(proto))
