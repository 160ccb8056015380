import pytest

pytest.importorskip("openvino")

from lwc.backends.openvino.profile import Kernel, milliseconds_by_node
from lwc.compiler.analysis.sites import SITE_KEY
from lwc.compiler.testing import parse

TEXT = """agraph (float[1,4,8,8] x, float[4,4,1,1] w) => (float[1,4,8,8] y) {
    [conv] a = Conv (x, w)
    [root] b = Sqrt (a)
    [sine] c = Sin (b)
    [left] d, e = Split <axis = 1, num_outputs = 2> (c)
    [joint] y = Concat <axis = 1> (d, e)
}"""


def owned(*kernels: Kernel, ms: float = 1.0) -> dict[str, float]:
    model = parse('<ir_version: 8, opset_import: ["" : 18]>\n' + TEXT)
    return milliseconds_by_node(kernels, [{kernel.name: ms for kernel in kernels}], model)


def test_fused_kernel_is_its_products() -> None:
    assert owned(Kernel("root", ("conv", "root"), ())) == {"conv": 1.0}


def test_elementwise_chain_is_shared() -> None:
    assert owned(Kernel("Subgraph_7", ("root", "sine"), ())) == {"root": 0.5, "sine": 0.5}


def test_reorder_is_its_readers() -> None:
    reorder = Kernel("reorder_1", (), ("conv",))
    assert owned(reorder, Kernel("conv", ("conv",), ())) == {"conv": 2.0}


def test_reorder_in_front_of_an_output_is_its_makers() -> None:
    assert owned(Kernel("conv", (), ("reorder_1",)), Kernel("reorder_1", (), ("y/sink",))) == {"conv": 2.0}


def test_one_output_of_several_is_its_node() -> None:
    assert owned(Kernel("left_d", (), ())) == {"left": 1.0}


def test_kernel_that_leads_nowhere_keeps_its_name() -> None:
    assert owned(Kernel("mystery", ("part_1",), ("mystery",))) == {"mystery": 1.0}


def test_median_over_runs_counts_absence_as_no_time() -> None:
    model = parse('<ir_version: 8, opset_import: ["" : 18]>\n' + TEXT)
    kernel = Kernel("conv", (), ())
    runs = [{"conv": 1.0}, {"conv": 3.0}, {}]
    assert milliseconds_by_node([kernel], runs, model) == {"conv": 1.0}


def test_node_made_for_a_site_counts_for_the_site() -> None:
    model = parse('<ir_version: 8, opset_import: ["" : 18]>\n' + TEXT)
    next(node for node in model.graph if node.name == "root").metadata_props[SITE_KEY] = "conv"
    assert milliseconds_by_node([Kernel("root", (), ())], [{"root": 1.0}], model) == {"conv": 1.0}
