from __future__ import annotations

import onnx
import onnx_ir as ir

from lwc.compiler.testing import CONTEXT
from lwc.passes.canonicalize.infer_shapes import InferShapes


def test_annotates_and_reports_no_change() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y) { t = Relu(x)\n y = Neg(t) }'
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert not InferShapes().run(model, CONTEXT).changed
    shape = next(iter(model.graph)).outputs[0].shape
    assert shape is not None
    assert str(shape) == "[N,3]"
