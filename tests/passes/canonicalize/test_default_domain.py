from __future__ import annotations

import onnx
import onnx_ir as ir

from lwc.compiler.testing import CONTEXT
from lwc.passes import clean
from lwc.passes.canonicalize.default_domain import DefaultDomain
from lwc.passes.canonicalize.remove_unused import RemoveUnused

TEXT = (
    '<ir_version: 8, opset_import: ["ai.onnx" : 17]>\n'
    "g (float[2] x) => (float[2] y) { t = Relu(x)\n u = Identity(t)\n y = Neg(u) }"
)


def test_the_long_name_becomes_the_short_one() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    assert DefaultDomain().run(model, CONTEXT).changed
    assert dict(model.opset_imports) == {"": 17}
    assert not DefaultDomain().run(model, CONTEXT).changed


def test_removing_what_is_unused_leaves_the_long_name() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    RemoveUnused().run(model, CONTEXT)
    assert dict(model.opset_imports) == {"ai.onnx": 17}


def test_a_model_with_the_long_name_is_cleaned_like_any_other() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    clean(CONTEXT.target).run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Relu", "Neg"]
    onnx.checker.check_model(ir.to_proto(model))
