"""collect: right against values computed at once, whatever the grouping, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from lwc.compiler.analysis.activations import collect
from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import InternalError
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site
from lwc.compiler.data import Calibration

CONV, RELU, POOL, GEMM = (
    Site("conv", "Conv"),
    Site("relu", "Relu"),
    Site("pool", "GlobalAveragePool"),
    Site("fc", "Gemm"),
)
SITES = (CONV, RELU, POOL, GEMM, Site("twin", "Gemm"), Site("shape", "Shape"))


def model():
    """x -> Conv -> Relu -> pool -> two Gemms of one input; Shape makes integers."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3)),
        "b": rng.standard_normal(4),
        "f": rng.standard_normal((4, 2)),
        "g": rng.standard_normal((4, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["v"], name="flatten"),
        helper.make_node("Gemm", ["v", "f"], ["y"], name="fc"),
        helper.make_node("Gemm", ["v", "g"], ["z"], name="twin"),
        helper.make_node("Shape", ["r"], ["s"], name="shape"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return Model.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


class Reference:
    """onnx's own evaluator as a Session."""

    def __init__(self, model, names):
        self._run = ReferenceEvaluator(model.to_proto())
        self._names = ["y", *names]

    def run(self, feeds):
        return dict(zip(self._names, self._run.run(self._names, dict(feeds)), strict=True))


class Sessions:
    """open_session that remembers which values were asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, model, names):
        self.asked.append(tuple(names))
        return Reference(model, names)


def samples(count=6, height=6):
    rng = np.random.default_rng(1)
    widths = rng.integers(5, 9, count)
    return [{"x": rng.standard_normal((1, 3, height, int(width))).astype(np.float32)} for width in widths]


def calibration(items):
    port = Port("x", np.dtype(np.float32), ("n", 3, "h", "w"))
    return Calibration.open(items, [port], limit=None, seed=0)


def collected(items=None, sites=SITES, sessions=None, **options):
    return collect(model(), sites, calibration(items or samples()), sessions or Sessions(), **options)


def values(name, items=None):
    session = Reference(model(), [name])
    found = [item[name] if name in item else session.run(item)[name] for item in items or samples()]
    return np.concatenate([value.ravel() for value in found])


def same(a, b):
    assert a.keys() == b.keys()
    for site in a:
        pairs = zip((*a[site].inputs, *a[site].outputs), (*b[site].inputs, *b[site].outputs), strict=True)
        for mine, theirs in pairs:
            assert (mine is None) == (theirs is None)
            if mine is not None:
                assert (mine.count, mine.mean, mine.variance) == (theirs.count, theirs.mean, theirs.variance)
                np.testing.assert_array_equal(mine.histogram, theirs.histogram)
                np.testing.assert_array_equal(mine.edges, theirs.edges)
        assert (a[site].gram is None) == (b[site].gram is None)
        if a[site].gram is not None:
            np.testing.assert_array_equal(a[site].gram, b[site].gram)


def test_statistics_are_those_of_all_values_of_all_samples():
    stats = collected()
    for found, name in ((stats[CONV].inputs[0], "x"), (stats[CONV].outputs[0], "c"), (stats[RELU].outputs[0], "r")):
        want = values(name)
        assert (found.count, found.minimum, found.maximum) == (want.size, want.min(), want.max())
        assert found.mean == pytest.approx(want.mean(), abs=1e-6)
        assert found.variance == pytest.approx(want.var(), rel=1e-5)
        assert found.histogram.sum() == want.size


def test_positions_follow_the_node_with_none_for_constants_and_integers():
    stats = collected()
    assert [found is not None for found in stats[CONV].inputs] == [True, False, False]
    assert stats[Site("shape", "Shape")].outputs == (None,)


def test_values_that_sites_share_have_one_statistic():
    stats = collected()
    assert stats[CONV].outputs[0] is stats[RELU].inputs[0]
    assert stats[GEMM].inputs[0] is stats[Site("twin", "Gemm")].inputs[0]


def test_only_values_of_the_sites_are_fetched():
    sessions = Sessions()
    collected(sites=(GEMM,), sessions=sessions)
    assert set(sum(sessions.asked, ())) == {"v"}


def test_only_the_values_asked_for_are_kept():
    stats = collected(values={"r"})
    assert stats[RELU].inputs == (None,)
    assert stats[RELU].outputs[0].count == values("r").size


@pytest.mark.parametrize("max_memory_bytes", [1, 50_000, 100_000])
def test_groups_do_not_change_the_result(max_memory_bytes):
    sessions = Sessions()
    small = collected(sessions=sessions, max_memory_bytes=max_memory_bytes, gram=True, channels=True)
    assert len(sessions.asked) > 2
    same(small, collected(gram=True, channels=True))


def test_sizes_that_depend_on_data_are_learned_by_running():
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"], name="find"),
        helper.make_node("Cast", ["i"], ["c"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Neg", ["r"], ["y"], name="neg"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    found = Model.from_proto(helper.make_model(helper.make_graph(nodes, "g", [x], [y])))
    sessions = Sessions()
    stats = collect(found, [Site("relu", "Relu"), Site("neg", "Neg")], calibration(samples()), sessions)
    assert sessions.asked == [("c",), ("r",), ("c", "r")]
    assert stats[Site("relu", "Relu")].inputs[0].count == sum(4 * sample["x"].size for sample in samples())


def test_a_group_keeps_to_the_bound():
    sessions = Sessions()
    collected(sessions=sessions, max_memory_bytes=4 * 32768 + 20_000)
    assert max(len(asked) for asked in sessions.asked[1:]) <= 4


def test_progress_counts_every_run_of_every_group():
    seen = []
    collected(max_memory_bytes=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, seen[0][1]) for i in range(len(seen))]
    assert seen[-1][0] == seen[-1][1] == 6 * len("xcrpvyzs")


def test_gram_of_a_gemm_is_the_mean_of_its_input_rows():
    stats = collected(gram=True)
    rows = values("v").reshape(-1, 4).astype(float)
    np.testing.assert_allclose(stats[GEMM].gram, rows.T @ rows / len(rows), rtol=1e-5)
    assert stats[GEMM].gram is stats[Site("twin", "Gemm")].gram


def test_gram_of_a_convolution_gives_the_energy_of_its_output():
    """E[y^2] of each output channel is w^T H w for the bias-free convolution."""
    stats = collected(gram=True)
    weight = model().graph.initializers["w"].const_value.numpy().reshape(4, 27).astype(float)
    bias = model().graph.initializers["b"].const_value.numpy()
    session = Reference(model(), ["c"])
    outputs = np.concatenate([session.run(item)["c"].reshape(4, -1) for item in samples()], axis=1)
    want = np.square(outputs - bias[:, None]).mean(1)
    np.testing.assert_allclose(np.einsum("oi,ij,oj->o", weight, stats[CONV].gram, weight), want, rtol=1e-4)


def test_gram_is_absent_unless_asked_for_and_where_there_is_no_weight():
    assert collected()[GEMM].gram is None
    assert collected(gram=True)[RELU].gram is None


def test_gram_is_absent_above_its_size_limit(monkeypatch):
    monkeypatch.setattr("lwc.compiler.analysis.activations.GRAM_FEATURES", 26)
    stats = collected(gram=True)
    assert stats[CONV].gram is None
    assert stats[GEMM].gram is not None


def test_channels_follow_the_operators_around_a_value():
    stats = collected(channels=True)
    assert [stats[CONV].inputs[0].axis, stats[RELU].outputs[0].axis, stats[GEMM].inputs[0].axis] == [1, 1, 1]
    columns = values("v").reshape(-1, 4)
    np.testing.assert_allclose(stats[GEMM].inputs[0].channel_mean, columns.mean(0), rtol=1e-5)
    assert collected()[GEMM].inputs[0].channel_mean is None


def test_a_label_named_like_a_value_is_not_taken_for_it():
    items = [{**item, "r": np.array([1e9])} for item in samples()]
    assert collected(items)[RELU].outputs[0].maximum < 1e6


def test_a_site_that_is_no_node_is_a_bug():
    with pytest.raises(InternalError, match="nobody"):
        collected(sites=(Site("nobody", "Conv"),))


def test_no_sites_need_no_runs():
    sessions = Sessions()
    assert collected(sites=(), sessions=sessions) == {}
    assert sessions.asked == []


def test_interrupting_leaves_at_once():
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collected(progress=stop)


class Arithmetic:
    """A Session of three NumPy operations, whose own memory does not grow."""

    def run(self, feeds):
        doubled = 2 * feeds["x"]
        return {"c": doubled, "r": np.maximum(doubled, 0), "y": doubled[:, :2, 0, 0]}


def test_peak_memory_with_512_samples_is_within_ten_percent_of_16():
    def peak(count):
        rng = np.random.default_rng(0)
        drawn = Calibration.open(
            ({"x": rng.standard_normal((1, 3, 64, 64)).astype(np.float32)} for _ in range(count)),
            [Port("x", np.dtype(np.float32), ("n", 3, "h", "w"))],
            limit=None,
            seed=0,
        )
        tracemalloc.start()
        collect(model(), (CONV, RELU), drawn, lambda *_: Arithmetic(), channels=True)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(512) < 1.1 * peak(16)
