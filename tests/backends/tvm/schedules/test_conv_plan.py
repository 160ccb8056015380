import pytest

pytest.importorskip("tvm")
from lwc.backends.tvm.machine import KIB, Machine
from lwc.backends.tvm.schedules.conv_plan import SPARE_REGISTERS, Conv, plan

WIDE = Machine("x86_64-linux-gnu", "skylake-avx512", (), 64, 32, 32 * KIB, 1024 * KIB, 2)
NARROW = Machine("x86_64-linux-gnu", "x86-64", (), 16, 16, 32 * KIB, 256 * KIB, 2)


def conv(inputs: int, outputs: int, size: int, kernel: int) -> Conv:
    pad = kernel // 2
    return Conv(1, size, size, inputs, size, size, outputs, kernel, kernel, 1, 1, pad, pad, 1, 1, 1)


@pytest.mark.parametrize("machine", [WIDE, NARROW])
@pytest.mark.parametrize("outputs", [1, 3, 24, 64, 1000])
@pytest.mark.parametrize("size", [1, 7, 13, 56])
def test_a_tile_fits_the_registers_and_the_layer(machine: Machine, outputs: int, size: int) -> None:
    layer = conv(16, outputs, size, 3)
    tile = plan(layer, machine)
    assert tile.pixels * tile.vectors + tile.vectors + 1 <= machine.registers - SPARE_REGISTERS
    assert tile.pixels <= layer.row
    assert tile.channels < outputs + tile.lanes * tile.vectors


def test_few_output_channels_take_narrow_vectors() -> None:
    assert plan(conv(16, 3, 56, 3), WIDE).lanes == 4


def test_a_tile_leaves_no_remainder_where_one_of_equal_rate_divides_the_row() -> None:
    assert 56 % plan(conv(64, 64, 56, 3), WIDE).pixels == 0


def test_a_pointwise_convolution_takes_pixels_across_rows() -> None:
    assert conv(64, 64, 7, 1).row == 49
