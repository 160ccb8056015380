"""Values that are folded are the ones ONNX Runtime computes: every node case of the onnx package, made constant."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx.backend.test import loader

from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import disagreement
from lwc.passes.canonicalize.evaluate import SIZES
from lwc.passes.canonicalize.fold_constants import FoldConstants
from lwc.passes.canonicalize.infer_shapes import InferShapes
from lwc.passes.edit import is_op

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])


@functools.cache
def constant_cases() -> dict[str, onnx.ModelProto]:
    """Models without inputs: cases of one foldable operator, their inputs turned into initializers."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = loader.load_model_tests(kind="node")
    found = {}
    for case in cases:
        arrays = case.data_sets[0][0]
        if len(case.model.graph.node) != 1 or case.model.graph.node[0].op_type not in SIZES:
            continue
        if all(isinstance(a, np.ndarray) and a.dtype.kind in "fiub" for a in arrays):
            found[case.name] = _with_constants(case.model, arrays)
    return found


def _with_constants(model: onnx.ModelProto, arrays: list[np.ndarray]) -> onnx.ModelProto:
    """The inputs become initializers; each output passes an Identity, so that what makes it may be folded."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.ir_version = 8
    names = [value.name for value in made.graph.input]
    del made.graph.input[:]
    made.graph.initializer.extend(
        onnx.numpy_helper.from_array(a, name) for name, a in zip(names, arrays, strict=False)
    )
    for value in made.graph.output:
        inner = f"{value.name}.inner"
        for node in made.graph.node:
            for k, name in enumerate(node.output):
                node.output[k] = inner if name == value.name else name
        made.graph.node.append(onnx.helper.make_node("Identity", [inner], [value.name]))
    return made


def _run(model: onnx.ModelProto) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {})


@pytest.mark.parametrize("name", constant_cases())
def test_folds_to_what_onnx_runtime_computes(name: str) -> None:
    proto = constant_cases()[name]
    try:
        expected = _run(proto)
    except Exception as error:
        pytest.skip(f"ONNX Runtime does not run it: {error}")
    model = ir.from_proto(proto)
    InferShapes().run(model, CONTEXT)
    FoldConstants().run(model, CONTEXT)
    assert not disagreement(expected, _run(ir.to_proto(model)))


def test_nearly_all_cases_are_folded() -> None:
    left = []
    for name, proto in constant_cases().items():
        model = ir.from_proto(proto)
        InferShapes().run(model, CONTEXT)
        FoldConstants().run(model, CONTEXT)
        if any(is_op(node, *SIZES) and node.op_type != "Identity" for node in model.graph):
            left.append(name)
    assert len(left) < 0.1 * len(constant_cases()), left
