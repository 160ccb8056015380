import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import answers, assert_agrees, model
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model

EIGHT_BITS = {
    "float8e4m3fn": (17, ml_dtypes.float8_e4m3fn),
    "float8e4m3fnuz": (18, ml_dtypes.float8_e4m3fnuz),
    "float8e5m2": (19, ml_dtypes.float8_e5m2),
    "float8e5m2fnuz": (20, ml_dtypes.float8_e5m2fnuz),
}
HEADER = '<ir_version: 9, opset_import: ["" : 19]>'


def awkward() -> np.ndarray:
    """Ties between neighbours, subnormals, both zeros, the largest numbers and what lies beyond them."""
    codes = np.arange(128, dtype=np.uint8)
    exact = np.unique(np.concatenate([codes.view(dtype).astype(np.float32) for _, dtype in EIGHT_BITS.values()]))
    exact = exact[np.isfinite(exact)]
    middles = (exact[:-1] + exact[1:]) / 2
    below, above = (np.nextafter(middles, np.float32(way)) for way in (0, np.inf))
    near = np.concatenate([exact, middles, below, above])
    far = np.array([np.inf, np.nan, 464, 465, 61440, 61441, 1e9, 1e-30], np.float32)
    positive = np.concatenate([near.astype(np.float32), far])
    return np.concatenate([positive, -positive])


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_to_eight_bit_floats_bit_by_bit(kind: str, saturate: int) -> None:
    x, (to, dtype) = awkward(), EIGHT_BITS[kind]
    (got,) = answers(
        model(f"""{HEADER} agraph (float[{len(x)}] x) => ({kind}[{len(x)}] y) {{
            y = Cast <to = {to}, saturate = {saturate}> (x)
        }}"""),
        {"x": x},
    )
    largest = float(ml_dtypes.finfo(dtype).max)
    want = (np.clip(x, -largest, largest) if saturate else x).astype(dtype)
    assert got.dtype == dtype
    both_nan = np.isnan(want.astype(np.float32)) & np.isnan(got.astype(np.float32))
    different = (want.view(np.uint8) != got.view(np.uint8)) & ~both_nan
    assert not different.any(), list(zip(x[different], want[different], got[different], strict=True))[:5]


@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_every_code_of_an_eight_bit_float_is_decoded(kind: str) -> None:
    x = np.arange(256, dtype=np.uint8).view(EIGHT_BITS[kind][1])
    text = f"{HEADER} agraph ({kind}[256] x) => (float[256] y) {{ y = Cast <to = 1> (x) }}"
    (got,) = answers(model(text), {"x": x})
    np.testing.assert_array_equal(got, x.astype(np.float32))


@pytest.mark.parametrize(
    ("given", "to", "made"),
    [("float", 9, "bool"), ("float", 7, "int64"), ("float", 3, "int8"), ("float", 10, "float16"),
     ("float16", 1, "float"), ("double", 1, "float"), ("float", 11, "double"), ("float16", 6, "int32")],
)  # fmt: skip
def test_numbers_are_cut_off_towards_zero_and_are_true_unless_zero(given: str, to: int, made: str) -> None:
    kinds = {"float": np.float32, "float16": np.float16, "double": np.float64}
    x = np.array([0.0, -0.0, 0.5, -0.5, 1.999, -1.999, 2.5, 100.7, -100.7, 1e-7], kinds[given])
    assert_agrees(f"agraph ({given}[10] x) => ({made}[10] y) {{ y = Cast <to = {to}> (x) }}", {"x": x})


def test_sixteen_bit_floats_round_to_even_and_overflow_to_infinity() -> None:
    x = np.array([2049, 2051, 65519, 65520, 1e9, -1e9, 5.96e-8, 2e-8, np.nan, -np.inf], np.float32)
    assert_agrees("agraph (float[10] x) => (float16[10] y) { y = Cast <to = 10> (x) }", {"x": x})
    assert_agrees("agraph (float[10] x) => (bfloat16[10] y) { y = Cast <to = 16> (x) }", {"x": x})


def test_integers_that_do_not_fit_keep_their_lowest_bits() -> None:
    x = np.array([0, -1, 255, 256, 257, -129, 2**31, 2**40 + 7], np.int64)
    assert_agrees("agraph (int64[8] x) => (uint8[8] y) { y = Cast <to = 2> (x) }", {"x": x})
    assert_agrees("agraph (int64[8] x) => (int32[8] y) { y = Cast <to = 6> (x) }", {"x": x})
    assert_agrees("agraph (int64[8] x) => (bool[8] y) { y = Cast <to = 9> (x) }", {"x": x})


def test_cast_like_takes_the_type_alone() -> None:
    text = "agraph (float[3] x, int32[2, 2] like) => (int32[3] y) { y = CastLike (x, like) }"
    assert_agrees(text, {"x": np.array([-1.5, 0.5, 7.9], np.float32), "like": np.zeros((2, 2), np.int32)})


def test_strings_are_refused() -> None:
    proto = model("agraph (float[3] x) => (string[3] y) { y = Cast <to = 8> (x) }")
    with pytest.raises(UnsupportedOperator, match=r"'y' \(Cast\)"):
        import_model(Model.from_proto(proto))
