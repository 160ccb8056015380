import pytest

pytest.importorskip("tvm")
from lwc.backends.tvm.machine import KIB, Machine
from lwc.backends.tvm.schedules import conv_plan
from lwc.backends.tvm.schedules.conv_plan import Conv
from lwc.backends.tvm.schedules.winograd_plan import Winograd, candidates, cycles, fits
from lwc.backends.tvm.testing import X86

MACHINE = Machine(X86, "skylake-avx512", (), 64, 32, 32 * KIB, 1024 * KIB, 2)


def square(size: int, channels: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Conv:
    out = (size - 1) // stride + 1
    pad = kernel // 2
    return Conv(1, size, size, channels, out, out, outputs, kernel, kernel, stride, stride, pad, pad, 1, 1, groups)


def fastest(conv: Conv) -> Winograd | conv_plan.Tile:
    found = [*conv_plan.candidates(conv, MACHINE), *candidates(conv, MACHINE)]
    return min(found, key=lambda each: cycles(conv, each, MACHINE))


@pytest.mark.parametrize(
    "conv",
    [square(14, 64, 64, 5), square(14, 64, 64, 3, 2), square(14, 64, 64, 3, 1, 2), square(14, 8, 64)],
    ids=["5x5", "stride 2", "groups", "few channels"],
)
def test_others_are_computed_directly(conv: Conv) -> None:
    assert not fits(conv, MACHINE)


@pytest.mark.parametrize("conv", [square(56, 64, 64), square(28, 128, 128), square(112, 64, 64)])
def test_large_tiles_are_for_large_images(conv: Conv) -> None:
    assert fits(conv, MACHINE)
    found = fastest(conv)
    assert isinstance(found, Winograd)
    assert found.size == 4


def test_four_times_the_weights_are_not_worth_it_for_few_pixels() -> None:
    found = fastest(square(7, 512, 512))
    assert isinstance(found, conv_plan.Tile) or found.size == 2


def test_sums_stay_in_registers_and_tiles_exist() -> None:
    conv = square(14, 40, 24)
    for each in candidates(conv, MACHINE):
        assert each.rows * each.vectors + each.vectors + 1 <= MACHINE.registers
        assert each.rows <= each.block <= each.tiles(conv)
        assert each.channels <= conv.out_channels
