from lwc.compiler.analysis.shapes import forget_inner_shapes, infer_shapes
from lwc.compiler.core.model import Model
from lwc.models import digits


def test_only_inputs_and_outputs_keep_their_shapes() -> None:
    model = Model.open(digits.path("cnn"))
    infer_shapes(model.ir)
    assert any(value.shape for node in model.graph for value in node.outputs[:1] if value not in model.graph.outputs)
    before = model.digest()
    forget_inner_shapes(model.ir)
    proto = model.to_proto()
    made = {name for node in proto.graph.node for name in node.output}
    assert not made & {value.name for value in proto.graph.value_info}
    assert proto.graph.output[0].type.tensor_type.HasField("shape")
    assert model.digest() == before
