"""One sample against the model's inputs: what is converted, what is refused, and how errors read."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from lwc.compiler.core.backend import Port
from lwc.compiler.core.errors import BadCalibration
from lwc.compiler.fitting import fit


def port(dtype=np.float32, shape=("n", 3), name="x"):
    return Port(name, np.dtype(dtype), shape)


def fit_one(array, dtype=np.float32, shape=("n", 3), name="x"):
    return fit({name: array}, [port(dtype, shape, name)], "s.npz, sample 0")[name]


def message_of(sample, *ports):
    with pytest.raises(BadCalibration) as caught:
        fit(sample, ports, "s.npz, sample 0")
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (np.ones((1, 3), np.float64), np.float32),
        (np.ones((1, 3), np.float16), np.float32),
        (np.ones((1, 3), np.float32), np.float16),
        (np.ones((1, 3), np.float32), ml_dtypes.bfloat16),
        (np.array([[1, 2, 3]], np.int64), np.int32),
        (np.array([[1, 2, 3]], np.int32), np.int64),
        (np.array([[1, 2, 255]], np.int64), np.uint8),
        (np.array([[0, 1, 1]], np.int64), np.bool_),
        (np.array([[True, False, True]]), np.int64),
        ([[1.0, 2.0, 3.0]], np.float32),
    ],
)
def test_types_are_converted_where_every_value_survives(given, wanted):
    fitted = fit_one(given, wanted)
    assert fitted.dtype == wanted
    np.testing.assert_array_equal(fitted.astype(float), np.asarray(given, float))


def test_an_array_that_fits_is_passed_as_it_is():
    array = np.ones((2, 3), np.float32)
    assert fit_one(array) is array


@pytest.mark.parametrize(
    ("given", "wanted", "says"),
    [
        (np.array([[0, 128, 255]], np.uint8), np.float32, "uint8 from 0 to 255; the model takes float32"),
        (np.array([[0.0, 1.0, 2.0]]), np.int64, "float64; the model takes int64"),
        (np.array([[0, 1, 2**31]]), np.int32, "int64 from 0 to 2147483648; the model takes int32"),
        (np.array([[0, -1, 2]]), np.uint8, "from -1 to 2; the model takes uint8"),
        (np.array([[0, 1, 2]]), np.bool_, "from 0 to 2; the model takes bool"),
        (np.array([["a", "b", "c"]]), np.float32, "holds <U1; the model takes float32"),
        (np.array([[1 + 2j] * 3]), np.float32, "complex128"),
    ],
)
def test_types_that_would_change_a_value_are_refused_by_name(given, wanted, says):
    message = message_of({"x": given}, port(wanted))
    assert message.startswith("s.npz, sample 0: input 'x' holds")
    assert says in message
    assert "Convert the array" in message


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((1, 4), "Resize or transpose"), ((3,), "One axis is missing"), ((1, 3, 1, 1), "2 axes"), ((), "One axis")],
)
def test_shapes_that_do_not_fit_are_refused_with_both_shapes(shape, hint):
    message = message_of({"x": np.ones(shape, np.float32)}, port())
    assert f"has shape {list(shape)}; the model takes [n, 3]." in message
    if len(shape):
        assert hint in message


def test_a_missing_input_is_named_with_what_there_is():
    message = message_of({"y": np.ones(3), "z": np.ones(3)}, port())
    assert message == (
        "s.npz, sample 0 has no array for input 'x'; it holds 'y', 'z'. Name the arrays after the model's inputs: 'x'."
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    assert "NaN or infinite" in message_of({"x": np.array([[0.0, bad, 1.0]], np.float32)}, port())


def test_values_that_overflow_the_models_type_are_refused():
    assert "too large for float16" in message_of({"x": np.array([[0.0, 1e6, 1.0]], np.float32)}, port(np.float16))


def test_labels_may_be_anything_but_objects():
    sample = {"x": np.ones((1, 3), np.float32), "label": np.array([np.nan]), "text": np.array(["a"])}
    assert list(fit(sample, [port()], "s")) == ["x", "label", "text"]
    assert "'label' holds Python objects" in message_of({**sample, "label": np.array([object()])}, port())


def test_an_empty_array_is_refused_unless_it_is_a_state():
    assert "is empty" in message_of({"x": np.zeros((0, 3), np.float32)}, port())
    assert fit_one(np.zeros((0, 3), np.float32), name="past_key_values.0.key").size == 0


def test_a_sample_that_is_no_dict_is_refused():
    assert "is a ndarray, not a dict" in message_of(np.ones((1, 3)), port())


def test_a_ragged_list_is_refused():
    assert "is no array" in message_of({"x": [[1.0], [1.0, 2.0]]}, port())


def test_scalars_fit_inputs_without_axes():
    assert fit_one(16000, np.int64, ()).shape == ()


def test_strings_come_as_objects():
    fitted = fit_one(np.array([["a", "b", "c"]]), np.object_)
    assert fitted.dtype == np.object_
    assert "takes strings or a sequence" in message_of({"x": np.ones(3)}, port(np.object_))


def test_bfloat16_saved_by_numpy_is_recognised():
    saved = np.array([[1.5, 2.0, -3.0]], ml_dtypes.bfloat16).view(np.dtype("V2"))
    np.testing.assert_array_equal(fit_one(saved, ml_dtypes.bfloat16).astype(float), [[1.5, 2.0, -3.0]])
