"""Every case of the onnx package that ONNX Runtime runs, runs and agrees after canonicalization and fusion.

Each in four variants, so that folding and reasoning about unknown dimensions meet every operator too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import NAMED
from lwc.compiler.onnx_cases import OnnxCase, onnx_cases
from lwc.compiler.testing import assert_keeps_promises, disagreement, run_onnxruntime
from lwc.passes import CANONICALIZE, FUSE, clean

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])
FIRST_WITH_UNLISTED_CONSTANTS = 4


@functools.cache
def cases() -> dict[str, OnnxCase]:
    return {case.name: case for case in onnx_cases()}


@pytest.fixture(autouse=True)
def _newest_opset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ONNX Runtime try the opset that the onnx package is working on."""
    monkeypatch.setenv("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")


def with_constant_inputs(case: OnnxCase) -> OnnxCase | None:
    """The same computation without inputs: they are initializers."""
    if not all(isinstance(array, np.ndarray) and array.dtype.kind in "fiub" for array in case.feeds.values()):
        return None
    made = onnx.ModelProto()
    made.CopyFrom(case.model)
    made.ir_version = max(made.ir_version, FIRST_WITH_UNLISTED_CONSTANTS)
    kept = [value for value in made.graph.input if value.name not in case.feeds]
    del made.graph.input[:]
    made.graph.input.extend(kept)
    made.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in case.feeds.items())
    return replace(case, model=made, feeds={})


def with_dynamic_shapes(case: OnnxCase, name_of: Callable[[int], str]) -> OnnxCase:
    """The same model without static shapes: dimension d of an input is called name_of(d), nothing else is known."""
    made = onnx.ModelProto()
    made.CopyFrom(case.model)
    constants = {tensor.name for tensor in made.graph.initializer}
    for value in (*made.graph.input, *made.graph.output):
        if value.name not in constants:
            for dim in value.type.tensor_type.shape.dim:
                size, is_input = dim.dim_value, value.name in case.feeds
                dim.Clear()
                if is_input and size and name_of(size):
                    dim.dim_param = name_of(size)
    del made.graph.value_info[:]
    return replace(case, model=made)


VARIANTS: Mapping[str, Callable[[OnnxCase], OnnxCase | None]] = {
    "as it is": lambda case: case,
    "constant inputs": with_constant_inputs,
    "nameless dimensions": lambda case: with_dynamic_shapes(case, lambda size: ""),
    "equal names for equal sizes": lambda case: with_dynamic_shapes(case, lambda size: f"size{size}"),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", cases())
def test_agrees_after_clean(name: str, variant: str) -> None:
    case = VARIANTS[variant](cases()[name])
    if case is None:
        pytest.skip("its inputs cannot be initializers")
    try:
        before = run_onnxruntime(case.model, case.feeds)
    except Exception as error:
        pytest.skip(f"ONNX Runtime does not run it: {error}")
    model = ir.from_proto(case.model)
    clean(CONTEXT.target).run(model, CONTEXT)
    after = run_onnxruntime(ir.to_proto(model), case.feeds)
    if case.is_random:
        assert [np.shape(x) for x in before] == [np.shape(x) for x in after]
        return
    assert not disagreement(before, after)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["as it is", "equal names for equal sizes"])
@pytest.mark.parametrize("name", cases())
def test_every_pass_keeps_its_promises(name: str, variant: str) -> None:
    case = VARIANTS[variant](cases()[name])
    assert case is not None
    try:
        onnx.checker.check_model(case.model)
    except onnx.checker.ValidationError as error:
        pytest.skip(f"invalid as it is: {error}")
    model = ir.from_proto(case.model)
    infer_shapes(model)
    for step in dict.fromkeys((*CANONICALIZE, *FUSE)):
        assert_keeps_promises(model, step, CONTEXT)


def test_there_are_over_1900_cases() -> None:
    assert len(cases()) > 1900
