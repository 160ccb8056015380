"""Batches of samples with the teacher's answers."""

import numpy as np
import pytest

from lwc import backends
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import find_target
from lwc.models.tiny.text import graph

torch = pytest.importorskip("torch")

from lwc.compiler.recover.lessons import Lessons  # noqa: E402

LAYER = "(float[N,3] x) => (float[N,4] y) <float[3,4] w> { h = MatMul(x, w) y = Relu(h) }"
FOLDING = """(float[N,3] x) => (float[1,M] y) <int64[2] s = {1,-1}, float[1] c = {2.0}>
    { r = Reshape(x, s) n = Softmax <axis = 1> (r) y = Mul(n, c) }"""
RNG = np.random.default_rng(0)


def lessons(text: str, sizes: list[int], batch: int = 4, most_bytes: int = 10**6) -> Lessons:
    """Of samples with so many rows each; row by row they count up."""
    feeds = [{"x": RNG.standard_normal((rows, 3)).astype(np.float32), "label": np.asarray(0)} for rows in sizes]
    backend, model = backends.get(backends.REFERENCE), Model(graph(text)(), "teacher")
    return Lessons(model, backend, find_target("host"), feeds, batch, most_bytes)


def test_samples_are_joined_where_each_answers_alone() -> None:
    batches = lessons(LAYER, [1] * 10).batches(range(10))
    assert [batch.count for batch in batches] == [4, 4, 2]
    assert batches[0].inputs["x"].shape == (4, 3)
    assert batches[0].answers["y"].shape == (4, 4)
    assert "label" not in batches[0].inputs


def test_samples_stay_alone_where_they_would_mix() -> None:
    assert [batch.count for batch in lessons(FOLDING, [1] * 5).batches(range(5))] == [1] * 5


def test_samples_of_other_shapes_are_joined_with_their_like() -> None:
    batches = lessons(LAYER, [1, 1, 2, 1, 2, 2, 1]).batches(range(7))
    assert sorted((batch.count, batch.inputs["x"].shape[0]) for batch in batches) == [(3, 6), (4, 4)]


def test_no_more_is_held_than_allowed_but_one_batch() -> None:
    of_a_batch = 4 * (3 + 4) * 4
    assert len(lessons(LAYER, [1] * 12, most_bytes=2 * of_a_batch).batches(range(12))) == 2
    assert len(lessons(LAYER, [1] * 12, most_bytes=1).batches(range(12))) == 1


def test_a_fifth_is_held_out() -> None:
    train, held = lessons(LAYER, [1] * 10).split(torch.Generator().manual_seed(0))
    assert len(held) == 2
    assert sorted(train + held) == list(range(10))


def test_a_single_sample_is_both() -> None:
    assert lessons(LAYER, [1]).split(torch.Generator()) == ([0], [0])


def test_values_inside_the_teacher() -> None:
    taught = lessons(LAYER, [1] * 4)
    (batch,) = taught.batches(range(4))
    (values,) = taught.values(["h"], [batch])
    assert torch.equal(values["h"].clamp_min(0), batch.answers["y"])
    assert (values["h"] < 0).any()
