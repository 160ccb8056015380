"""Operators compute what the onnx package's own cases expect of them."""

import functools

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.onnx_cases import OnnxCase, onnx_cases

torch = pytest.importorskip("torch")

from lwc.compiler.recover.operators import OPERATORS  # noqa: E402
from lwc.compiler.recover.operators.dtypes import to_torch  # noqa: E402
from lwc.compiler.recover.program import Program, refusal  # noqa: E402

# Cases that differ, with the reason.
DIFFERENT = {
    "test_attention_23_boolmask_fullymasked_row_nan_robustness": "a row without anything to look at is a mean here",
    "test_attention_causal_boolmask_nan_robustness": "likewise",
    "test_l2normalization_axis_0": "0 / 0 of a row of zeros",
    "test_maxpool_2d_uint8": "no integers",
    "test_reduce_max_empty_set": "nothing to reduce",
    "test_reduce_max_empty_set_bool": "nothing to reduce",
    "test_reduce_min_empty_set": "nothing to reduce",
    "test_resize_downsample_scales_cubic_align_corners": "as ONNX Runtime: sizes are whole",
    "test_resize_downsample_scales_linear_align_corners": "likewise",
}
SIXTEEN_BITS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)  # computed in 32


@functools.cache
def cases() -> dict[str, list[OnnxCase]]:
    """Those of one operator of the table, without 16-bit floats, by operator."""
    found: dict[str, list[OnnxCase]] = {}
    for case in onnx_cases():
        nodes = case.model.graph.node
        known = len(nodes) == 1 and nodes[0].op_type in OPERATORS and not case.is_random and case.expected is not None
        if known and not refusal(Model.from_proto(case.model, case.name)):
            found.setdefault(nodes[0].op_type, []).append(case)
    return found


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_computes_the_cases_of_the_operator(operator: str) -> None:
    for case in cases().get(operator, ()):
        name = case.name.rpartition("/")[2]
        model = Model.from_proto(case.model, name)
        short = any(v.dtype in SIXTEEN_BITS for v in (*model.graph.inputs, *model.graph.outputs))
        if short or name in DIFFERENT:
            continue
        program = Program(model)
        try:
            found = program.run({key: to_torch(array) for key, array in case.feeds.items()}, program.outputs)
        except UnsupportedOperator:
            continue
        for key, want in zip(program.outputs, case.expected or (), strict=True):
            assert found[key].shape == want.shape, name
            np.testing.assert_allclose(found[key].numpy(), want, rtol=max(case.rtol, 1e-4), atol=1e-5, err_msg=name)


def test_most_operators_have_cases() -> None:
    assert sum(map(len, cases().values())) > 600
    assert len(cases()) > 90
