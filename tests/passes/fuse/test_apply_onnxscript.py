from __future__ import annotations

import pytest

from lwc.compiler.testing import CONTEXT, assert_equivalent, assert_keeps_promises, assert_unchanged, parse
from lwc.passes.canonicalize.remove_unused import RemoveUnused
from lwc.passes.fuse.apply_onnxscript import ApplyOnnxscript


@pytest.mark.parametrize("fill", ["", "<value = float[1] {2.5}>"])
@pytest.mark.parametrize(("to", "kind"), [(7, "int64"), (11, "double"), (10, "float16")])
def test_a_filled_tensor_is_made_in_the_type_it_is_cast_to(fill: str, to: int, kind: str) -> None:
    model = parse(
        f"g (float[N, 3] x) => ({kind}[N, 3] y) {{ s = Shape(x)\n c = ConstantOfShape{fill}(s)\n"
        f"t = Cast<to={to}>(c)\n y = Neg(t) }}"
    )
    before = model.clone()
    assert_keeps_promises(model, ApplyOnnxscript(), CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert [node.op_type for node in model.graph] == ["Shape", "ConstantOfShape", "Neg"]
    assert_equivalent(before, model)


def test_an_assignment_to_all_rows_is_what_is_assigned() -> None:
    model = parse(
        "g (float[N, 3] x, float[N, 3] u) => (float[N, 3] y) <int64 zero = {0}, int64 one = {1}, int64[1] last = {-1}>"
        "{ s = Shape<start=0>(x)\n d = Gather<axis=0>(s, zero)\n r = Range(zero, d, one)\n i = Unsqueeze(r, last)\n"
        'y = ScatterND<reduction="none">(x, i, u) }'
    )
    before = model.clone()
    assert_keeps_promises(model, ApplyOnnxscript(), CONTEXT)
    RemoveUnused().run(model, CONTEXT)
    assert "ScatterND" not in [node.op_type for node in model.graph]
    assert_equivalent(before, model)


def test_a_default_that_callers_can_override_is_no_constant() -> None:
    assert_unchanged(
        "g (float[N, 3] x, float[N, 3] u, int64 zero = {0}) => (float[N, 3] y) <int64 one = {1}, int64[1] last = {-1}>"
        "{ s = Shape<start=0>(x)\n d = Gather<axis=0>(s, one)\n r = Range(zero, d, one)\n i = Unsqueeze(r, last)\n"
        'y = ScatterND<reduction="none">(x, i, u) }',
        ApplyOnnxscript(),
    )
