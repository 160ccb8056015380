import numpy as np
import pytest

pytest.importorskip("tvm")
from lwc.backends.tvm.legalize_conv import pack
from lwc.backends.tvm.schedules.conv_plan import Conv, Tile


@pytest.mark.parametrize(("groups", "outputs"), [(1, 5), (2, 6), (1, 8)])
def test_every_weight_is_packed_where_its_channel_is_and_the_rest_is_zero(groups: int, outputs: int) -> None:
    conv = Conv(1, 4, 4, 4, 4, 4, outputs, 3, 2, 1, 1, 1, 1, 1, 1, groups)
    tile = Tile(2, 2, 2)
    weight = np.arange(1, outputs * 6 * conv.group_in + 1, dtype=np.float32)
    weight = weight.reshape(outputs, 3, 2, conv.group_in)
    packed = pack(weight, conv, tile)
    for o in range(outputs):
        group, within = divmod(o, conv.group_out)
        block = group * tile.blocks(conv) + within // tile.channels
        np.testing.assert_array_equal(packed[block, :, :, :, within % tile.channels], weight[o])
    assert np.count_nonzero(packed) == weight.size
