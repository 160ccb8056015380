import ml_dtypes
import numpy as np
import onnx
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.build import Tvm
from lwc.backends.tvm.session import ALIGNMENT, WORTH_A_LOOK
from lwc.compiler.core.backend import Array
from lwc.compiler.core.errors import BadCalibration
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host

ADD = "agraph (float[4,16384] x) => (float[4,16384] y) <float one = {1}> { y = Add (x, one) }"
TVM = Tvm()


def read(text: str, opset: int = 17) -> Model:
    return Model.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}'))


def aligned(shape: tuple[int, ...], offset: int) -> Array:
    """Float zeros whose address leaves this remainder."""
    size = 4 * int(np.prod(shape))
    memory = np.zeros(size + 2 * ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT + offset
    return memory[start : start + size].view(np.float32).reshape(shape)


@pytest.mark.parametrize("offset", [0, 4])
def test_input_may_lie_anywhere(offset: int) -> None:
    x = aligned((4, 16384), offset)
    assert x.nbytes >= WORTH_A_LOOK
    x[...] = 2
    session = TVM.session(read(ADD), host())
    assert (session.run({"x": x})["y"] == 3).all()
    assert (x == 2).all()


def test_input_may_be_strided_or_read_only() -> None:
    session = TVM.session(read(ADD), host())
    wide = np.arange(8 * 16384, dtype=np.float32).reshape(4, 2 * 16384)
    assert (session.run({"x": wide[:, ::2]})["y"] == wide[:, ::2] + 1).all()
    frozen = aligned((4, 16384), 0)
    frozen.flags.writeable = False
    assert (session.run({"x": frozen})["y"] == 1).all()


def test_outputs_of_one_run_are_not_overwritten_by_the_next_and_can_be_written_into() -> None:
    session = TVM.session(read(ADD), host())
    x = np.zeros((4, 16384), np.float32)
    first = session.run({"x": x})["y"]
    session.run({"x": x + 5})
    assert (first == 1).all()
    first += 1
    assert (session.run({"x": x})["y"] == 1).all()


def test_several_outputs_keep_their_names() -> None:
    session = TVM.session(
        read("agraph (float[3] x) => (float[3] b, float[3] a) { a = Neg (x)\n b = Abs (x) }"), host()
    )
    x = np.array([1, -2, 3], np.float32)
    found = session.run({"x": x})
    assert list(found) == ["b", "a"]
    assert found["a"].tolist() == [-1, 2, -3]
    assert found["b"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["bool", "int64", "uint8", "double", "float16"])
def test_types_pass(name: str) -> None:
    dtype = {"double": "float64"}.get(name, name)
    x = np.array([0, 1, 1], dtype)
    found = TVM.session(read(f"agraph ({name}[3] x) => ({name}[3] y) {{ y = Concat <axis = 0> (x) }}"), host())
    assert found.run({"x": x})["y"].tolist() == x.tolist()
    assert found.outputs[0].dtype == x.dtype


def test_bfloat16_passes() -> None:
    x = np.array([0.5, 1, -2], ml_dtypes.bfloat16)
    session = TVM.session(read("agraph (bfloat16[3] x) => (bfloat16[3] y) { y = Concat <axis = 0> (x) }"), host())
    y = session.run({"x": x})["y"]
    assert y.dtype == x.dtype
    assert y.tolist() == x.tolist()


@pytest.mark.parametrize(
    "x", [np.zeros((4, 16384), np.float64), np.zeros((4, 1), np.float32), np.zeros(4, np.float32)], ids=str
)
def test_arrays_that_do_not_fit_are_refused(x: Array) -> None:
    with pytest.raises(BadCalibration, match="'x'"):
        TVM.session(read(ADD), host()).run({"x": x})


def test_missing_input_is_refused() -> None:
    with pytest.raises(BadCalibration, match="no array for input 'x'"):
        TVM.session(read(ADD), host()).run({"labels": np.zeros(3)})
