import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.search.group_readers import elimination_of, reader_sites

GRAPH = """<ir_version: 10, opset_import: ["": 21]>
g (float[1, 2, 4, 4] x) => (float[1, 3, 4, 4] y) {
    a = Conv(x, w1)
    y = Conv <pads = [1, 1, 1, 1]> (a, w2)
}"""


@pytest.fixture
def model() -> ir.Model:
    """The third of four channels has the smallest weights, the first is the least read."""
    proto, rng = onnx.parser.parse_model(GRAPH), np.random.default_rng(0)
    first = rng.normal(size=(4, 2, 1, 1)).astype(np.float32)
    first[2] *= 1e-3
    second = rng.normal(size=(3, 4, 3, 3)).astype(np.float32)
    second[:, 0] *= 0.3
    for name, array in (("w1", first), ("w2", second)):
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = node.output[0]
    found = ir.from_proto(proto)
    infer_shapes(found)
    return found


def test_the_channel_that_readers_lose_least_by_leaves_first(model: ir.Model) -> None:
    (group,) = find_channels(model).groups
    nodes = {node.name: node for node in model.graph if node.name}
    (site,) = reader_sites([group], nodes)
    assert site == Site("y", "Conv", "weight")
    stats = {site: LayerStats((), (), np.eye(36))}
    found = elimination_of(group, nodes, stats)
    assert found.channels[0] == 0
    taps = {site: LayerStats((), (), np.diag(np.repeat([1.0, 1e-9, 1.0, 1.0], 9)))}
    assert elimination_of(group, nodes, taps).channels[0] == 1
    assert (np.diff(found.losses) >= 0.0).all()


def test_without_statistics_the_smallest_weights_leave_first(model: ir.Model) -> None:
    (group,) = find_channels(model).groups
    nodes = {node.name: node for node in model.graph if node.name}
    assert elimination_of(group, nodes, {}).channels[0] == 2
    other = {Site("y", "Conv", "weight"): LayerStats((), (), np.eye(7))}  # of another layer
    assert elimination_of(group, nodes, other).channels[0] == 2
