import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import assert_agrees, model
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model

RNG = np.random.default_rng(0)
ROWS = 5


def listed(array: np.ndarray) -> str:
    return "{" + ", ".join(str(item) for item in array.reshape(-1).tolist()) + "}"


def product(depth: int, block: int, bits: int, *, zeros: bool = False, bias: bool = False) -> str:
    """Five rows of weights; each row's zero points begin with a byte of their own."""
    blocks = -(-depth // block)
    packed = RNG.integers(0, 256, (ROWS, blocks, block * bits // 8)).astype(np.uint8)
    scales = RNG.uniform(0.01, 0.1, ROWS * blocks).astype(np.float32)
    points = RNG.integers(0, 256, ROWS * -(-blocks * bits // 8)).astype(np.uint8)
    offsets = RNG.standard_normal(ROWS).astype(np.float32)
    given = ", ".join(["a", "w", "s", "z" if zeros else "", "", "b"] if bias else ["a", "w", "s", *["z"] * zeros])
    return f"""agraph (float[2, 3, {depth}] a) => (float[2, 3, {ROWS}] y)
    <uint8[{ROWS}, {blocks}, {packed.shape[2]}] w = {listed(packed)}, float[{scales.size}] s = {listed(scales)},
     uint8[{points.size}] z = {listed(points)}, float[{ROWS}] b = {listed(offsets)}> {{
        y = com.microsoft.MatMulNBits <N = {ROWS}, K = {depth}, bits = {bits}, block_size = {block}> ({given})
    }}"""


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("depth", "block"), [(64, 32), (48, 16), (40, 16)])
def test_product_of_weights_in_blocks_of_which_the_last_may_be_shorter(
    depth: int, block: int, bits: int, zeros: bool
) -> None:
    feeds = {"a": RNG.standard_normal((2, 3, depth)).astype(np.float32)}
    assert_agrees(product(depth, block, bits, zeros=zeros), feeds)


def test_product_of_weights_in_blocks_with_a_bias() -> None:
    assert_agrees(product(32, 16, 4, bias=True), {"a": RNG.standard_normal((2, 3, 32)).astype(np.float32)})


def test_weights_that_are_known_only_at_run_time_are_refused() -> None:
    proto = model("""agraph (float[1, 32] a, uint8[2, 1, 16] w, float[2] s) => (float[1, 2] y) {
        y = com.microsoft.MatMulNBits <N = 2, K = 32, bits = 4, block_size = 32> (a, w, s)
    }""")
    with pytest.raises(UnsupportedOperator, match=r"\(MatMulNBits\): the weights must be constant"):
        import_model(Model.from_proto(proto))


BLOCKED = """<ir_version: 10, opset_import: ["" : 21]> agraph (int8[4, 6] x) => (float[4, 6] y)
<float[{rows}, {columns}] s = {scales}, int8[{rows}, {columns}] z = {zeros}> {{
    y = DequantizeLinear <axis = {axis}, block_size = {block}> (x, s, z)
}}"""


@pytest.mark.parametrize(("axis", "block", "rows", "columns"), [(0, 2, 2, 6), (1, 3, 4, 2), (-1, 2, 4, 3)])
def test_dequantize_in_blocks_along_any_axis(axis: int, block: int, rows: int, columns: int) -> None:
    scales = listed(RNG.uniform(0.1, 1, rows * columns).astype(np.float32))
    zeros = listed(RNG.integers(-5, 5, rows * columns))
    text = BLOCKED.format(rows=rows, columns=columns, scales=scales, zeros=zeros, axis=axis, block=block)
    assert_agrees(text, {"x": RNG.integers(-128, 128, (4, 6)).astype(np.int8)})
