"""Synthetic inputs: runnable, plausible, reproducible."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import BadCalibration, BadInput
from lwc.compiler.core.model import Model
from lwc.compiler.data import synthesize

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)


def sample_of(*ports, model=None, seed=0, shapes=None, index=0):
    return synthesize(ports, model, 4, seed, shapes)[index]


def model_of(nodes, inputs, weights=()):
    """A model of these nodes whose inputs are (name, element type, rank)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, [None] * rank) for name, kind, rank in inputs],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights],
    )
    return Model.from_proto(helper.make_model(graph))


@pytest.mark.parametrize(
    ("shape", "made"),
    [
        (("n", 3, "h", "w"), (1, 3, 224, 224)),
        (("?", "?", "?", "?"), (1, 3, 224, 224)),
        (("n", "h", "w", 3), (1, 224, 224, 3)),
        ((8, 1, 28, 28), (8, 1, 28, 28)),
        (("n", 3, 48, "w"), (1, 3, 48, 320)),
    ],
)
def test_free_sides_of_images_get_sizes_that_networks_take(shape, made):
    assert sample_of(Port("x", F32, shape))["x"].shape == made


def test_images_are_smooth_and_normalised():
    x = sample_of(Port("image", F32, (1, 3, 224, 224)))["image"]
    assert x.dtype == np.float32
    assert -2.01 < x.min() < x.max() < 2.45
    neighbours = np.corrcoef(x[..., :-1].ravel(), x[..., 1:].ravel())[0, 1]
    assert neighbours > 0.9
    assert np.corrcoef(x[0, 0].ravel(), x[0, 1].ravel())[0, 1] > 0.5


def test_samples_of_images_differ():
    first, second = (sample_of(Port("x", F32, (1, 3, 64, 64)), index=i)["x"] for i in (0, 1))
    assert np.abs(first - second).mean() > 0.1


def test_uint8_images_are_pixels():
    x = sample_of(Port("x", np.dtype(np.uint8), (1, 64, 64, 3)))["x"]
    assert x.dtype == np.uint8
    assert x.max() > 100


@pytest.mark.parametrize(("op", "constant"), [("Div", 255.0), ("Mul", 1 / 255), ("Sub", 123.7)])
def test_floats_that_the_model_brings_down_from_255_are_pixels(op, constant):
    node = helper.make_node(op, ["x", "k"], ["y"])
    model = model_of([node], [("x", TensorProto.FLOAT, 4)], [("k", np.array(constant, np.float32))])
    x = sample_of(Port("x", F32, (1, 3, 64, 64)), model=model)["x"]
    assert x.max() > 100
    assert x.min() >= 0


def bert_ports():
    return [Port(name, I64, ("batch", "seq")) for name in ("input_ids", "attention_mask", "token_type_ids")]


def bert_model(vocabulary):
    node = helper.make_node("Gather", ["table", "input_ids"], ["y"])
    weights = [("table", np.zeros((vocabulary, 4), np.float32))]
    return model_of([node], [("input_ids", TensorProto.INT64, 2)], weights)


def test_token_ids_lie_below_the_vocabulary_with_a_padded_mask():
    lengths = set()
    for index in range(4):
        sample = sample_of(*bert_ports(), model=bert_model(500), index=index)
        assert {array.shape for array in sample.values()} == {(1, 64)}
        assert sample["input_ids"].min() >= 0
        assert 100 < sample["input_ids"].max() < 500
        mask = sample["attention_mask"][0]
        used = int(mask.sum())
        lengths.add(used)
        np.testing.assert_array_equal(mask, np.arange(64) < used)
        assert 32 <= used <= 64
        assert not sample["token_type_ids"].any()
    assert len(lengths) > 1


def test_the_vocabulary_is_found_behind_casts_and_of_one_hot():
    nodes = [
        helper.make_node("Cast", ["bytes"], ["c"], to=TensorProto.INT64),
        helper.make_node("OneHot", ["c", "depth", "values"], ["y"]),
    ]
    weights = [("depth", np.array([7], np.int64)), ("values", np.array([0, 1], np.float32))]
    model = model_of(nodes, [("bytes", TensorProto.INT32, 2)], weights)
    x = sample_of(Port("bytes", np.dtype(np.int32), ("n", 2048)), model=model)["bytes"]
    assert x.shape == (1, 2048)
    assert set(np.unique(x)) == set(range(7))


def test_a_shape_is_taken_where_given_and_shared_by_name():
    sample = sample_of(*bert_ports(), model=bert_model(50), shapes={"input_ids": (2, 16)})
    assert {array.shape for array in sample.values()} == {(2, 16)}


def test_speech_models_get_sound_rate_and_states():
    sample = sample_of(
        Port("input", F32, ("batch", "samples")), Port("state", F32, (2, "?", 128)), Port("sr", I64, ())
    )
    assert sample["input"].shape == (1, 16000)
    assert 0.01 < np.abs(sample["input"]).mean() < 0.5
    assert sample["state"].shape == (2, 1, 128)
    assert not sample["state"].any()
    assert sample["sr"] == 16000


def test_long_fixed_inputs_are_sound_too():
    x = sample_of(Port("x", F32, ("n", 43844, 1)))["x"]
    assert x.shape == (1, 43844, 1)
    assert np.abs(np.diff(x.ravel())).mean() < np.abs(x).mean()


def test_caches_have_room_for_a_past_and_masks_for_all():
    ports = [
        Port("input_ids", I64, ("batch", "seq")),
        Port("attention_mask", I64, ("batch", "past_seq + seq")),
        Port("past_key_values.0.key", F32, ("batch", 4, "past_seq", 8)),
    ]
    shapes = {name: array.shape for name, array in sample_of(*ports).items()}
    assert shapes == {"input_ids": (1, 64), "attention_mask": (1, 128), "past_key_values.0.key": (1, 4, 64, 8)}


def test_detection_models_get_sizes_and_scales():
    sample = sample_of(
        Port("image", F32, ("n", 3, 640, 480)), Port("im_shape", F32, ("n", 2)), Port("scale_factor", F32, ("n", 2))
    )
    np.testing.assert_array_equal(sample["im_shape"], [[640, 480]])
    np.testing.assert_array_equal(sample["scale_factor"], [[1, 1]])


def test_other_types_are_made_too():
    sample = sample_of(
        Port("flags", np.dtype(np.bool_), (1, 50)),
        Port("position_ids", I64, (1, 5)),
        Port("features", np.dtype(np.float16), (1, 40)),
        Port("x_lengths", I64, ("n",)),
        Port("tokens", I64, ("n", "t")),
    )
    assert 0 < sample["flags"].sum() < 50
    np.testing.assert_array_equal(sample["position_ids"], [[0, 1, 2, 3, 4]])
    assert sample["features"].dtype == np.float16
    assert 32 <= sample["x_lengths"][0] <= 64
    assert sample["x_lengths"].shape == (1,)


def test_equal_seeds_make_equal_samples_and_others_do_not():
    port = Port("x", F32, (1, 3, 32, 32))
    np.testing.assert_array_equal(sample_of(port)["x"], sample_of(port)["x"])
    assert not np.array_equal(sample_of(port)["x"], sample_of(port, seed=1)["x"])


def accepting(height):
    """The run of a session that takes images of one height alone."""

    def run(feeds):
        if feeds["x"].shape[2] != height:
            raise BadInput("Mul node failed.")

    return run


def test_sizes_are_tried_until_the_model_runs():
    port = Port("x", F32, ("n", 3, "h", "w"))
    calibration = synthesize([port], None, 2, 0, run=accepting(48))
    assert calibration[0]["x"].shape == (1, 3, 48, 320)


def test_a_model_that_takes_no_likely_size_asks_for_samples():
    with pytest.raises(BadCalibration, match=r"Mul node failed.*--calib"):
        synthesize([Port("x", F32, ("n", 3, "h", "w"))], None, 2, 0, run=accepting(37))


def test_strings_cannot_be_made_up():
    with pytest.raises(BadCalibration, match=r"'text'.*--calib"):
        synthesize([Port("text", np.dtype(np.object_), ("n",))], None, 1)


def test_a_scalar_of_floats_is_made_too():
    assert sample_of(Port("threshold", F32, ()))["threshold"].shape == ()
