from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.group_sizes import macs_of
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.models.tiny.text import Builder, graph

FLOAT = graph("""(float[1,2,6,6] x) => (float[1,4,6,6] y) <float[8,2,3,3] w1, float[8] b1, float[4,8,1,1] w2>
    { a = Conv <pads = [1,1,1,1]> (x, w1, b1) y = Conv(a, w2) }""")
INTEGERS = graph("""(float[1,2,6,6] x) => (float[1,4,6,6] y) <int8[8,2,3,3] q1, float[8] s1, int8[8] b1, float[8] s2,
    int8[4,8,1,1] q2, float[4] s3> {
    w1 = DequantizeLinear <axis = 0> (q1, s1) b = DequantizeLinear <axis = 0> (b1, s2)
    w2 = DequantizeLinear <axis = 0> (q2, s3)
    a = Conv <pads = [1,1,1,1]> (x, w1, b) y = Conv(a, w2) }""")


def hidden_macs(build: Builder) -> int:
    model = build()
    for node in model.graph:
        node.name = node.outputs[0].name
    infer_shapes(model)
    (group,) = find_channels(model).groups
    return macs_of(group, {node.name or "": node for node in model.graph})


def test_layers_are_counted_whose_weights_come_in_integers() -> None:
    assert hidden_macs(INTEGERS) == hidden_macs(FLOAT) == 36 * (8 * 2 * 9 + 4 * 8)
