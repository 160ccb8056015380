"""Channels in another order compute what they did, whatever the graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Silent
from lwc.compiler.merging.align import align
from lwc.compiler.merging.frame import Frame, framed
from lwc.compiler.testing import DEEP_FP32, assert_equivalent, draw_feeds
from lwc.models import digits, tiny
from lwc.models.structures import mobilenet_v2, resnet18
from lwc.models.tiny.text import graph
from lwc.models.transformer_structure import bert

# Those with groups; the channels of the others are seen outside, or counted.
GRAPHS = {name: build for name, build in tiny.all_graphs().items() if name not in tiny.NOT_RUNNABLE}
REAL: dict[str, Callable[[], Model]] = {
    **{kind: partial(Model.open, digits.path(kind)) for kind in digits.KINDS},
    "resnet18": lambda: Model.from_proto(resnet18(size=32, classes=10, fold=False)),
    "mobilenet_v2": lambda: Model.from_proto(mobilenet_v2(size=32, classes=10)),
    "bert": lambda: Model.from_proto(bert(2, 24, 4, 6, 50)),
}


def frame_of(model: Model) -> Frame:
    return framed(align([model, model], Silent()), Silent())


def shuffled(frame: Frame, seed: int) -> Model:
    rng = np.random.default_rng(seed)
    return frame.fitted(1, {group: rng.permutation(size) for group, size in frame.sizes.items()})


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_shuffled_channels_of_every_operator_compute_the_same(name: str) -> None:
    model = Model(GRAPHS[name](), name)
    try:
        frame = frame_of(model)
    except BadInput as error:
        pytest.skip(str(error))
    if not frame.sizes:
        pytest.skip("all its channels stay")
    assert_equivalent(frame.model.ir, shuffled(frame, 0).ir, tiny.feeds(model.ir), DEEP_FP32)


@cache
def real(name: str) -> Frame:
    return frame_of(REAL[name]())


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(REAL)), st.integers(0, 2**32 - 1))
def test_any_order_computes_the_same(name: str, seed: int) -> None:
    frame = real(name)
    drawn = draw_feeds(frame.model.ir, seed)
    feeds = {key: np.minimum(value, 1) if value.dtype.kind == "i" else value for key, value in drawn.items()}
    assert_equivalent(frame.model.ir, shuffled(frame, seed).ir, feeds, DEEP_FP32)


def test_an_order_of_its_own_for_each_reader_of_a_vector() -> None:
    frame = frame_of(
        Model(
            graph("""(float[2,4] x) => (float[2,3] y)
            <float[4,6] w1, float[6,6] w2, float[6,3] w3, float[6] b = {1, 2, 3, 4, 5, 6}>
            { a = MatMul(x, w1) c = Mul(a, b) d = Relu(c) e = MatMul(d, w2) f = Mul(e, b) h = Tanh(f)
              y = MatMul(h, w3) }""")(),
            "shared",
        )
    )
    assert sorted(frame.sizes.values()) == [6, 6]
    assert sum(group.shape == (6,) for group in frame.aligned.groups) == 2
    moved = frame.fitted(1, {group: np.roll(np.arange(6), k + 1) for k, group in enumerate(frame.sizes)})
    assert_equivalent(frame.model.ir, moved.ir)


def test_what_the_caller_reads_stays_and_is_told() -> None:
    frame = frame_of(Model.open(digits.path("cnn")))
    assert any("'10.weight'" in words and "the caller reads it" in words for words in frame.stay)


def test_heads_change_places_whole() -> None:
    frame = real("bert")
    heads = [group for group in frame.channels.groups if group.heads]
    assert [group.size for group in heads] == [4, 4]
    assert all(group.site.name in frame.sizes for group in heads)
