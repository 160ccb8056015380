"""Every case of the onnx package that ONNX Runtime runs, runs and agrees after canonicalization and fusion.

Each in four variants, so that folding and reasoning about unknown dimensions meet every operator too.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import pytest
from onnx.backend.test import loader

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import assert_keeps_promises, disagreement, run_onnxruntime
from lwc.passes import CANONICALIZE, FUSE, clean

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])
DATA = Path(loader.__file__).parent.parent / "data"
NEWEST_IR = 11  # that ONNX Runtime 1.20 reads; the cases need nothing newer
FIRST_WITH_UNLISTED_CONSTANTS = 4
RANDOM = ("bernoulli", "dropout", "multinomial", "randomnormal", "randomuniform", "training_dropout")


@dataclass(frozen=True)
class Case:
    """A model and one set of inputs."""

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, Any]


@functools.cache
def cases() -> dict[str, Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with np.errstate(all="ignore"):
            found = [*_node_cases(), *_stored_cases(), *_light_cases()]
    return {case.name: case for case in found}


def _node_cases() -> Iterator[Case]:
    for case in loader.load_model_tests(kind="node"):
        given = zip(case.model.graph.input, case.data_sets[0][0], strict=False)
        feeds = {value.name: _array(item, value.type) for value, item in given}
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        model.ir_version = min(model.ir_version, NEWEST_IR)
        yield Case(f"node/{case.name}", model, feeds)


def _array(item: Any, kind: onnx.TypeProto) -> Any:
    """Cases hold scalars and types unknown to NumPy in forms of their own."""
    if isinstance(item, onnx.TensorProto):
        return onnx.numpy_helper.to_array(item)
    if isinstance(item, (int, float, np.generic)):
        return np.asarray(item, onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))
    return item


def _stored_cases() -> Iterator[Case]:
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for folder in sorted((DATA / kind).iterdir()):
            model = onnx.load(folder / "model.onnx")
            constants = {tensor.name for tensor in model.graph.initializer}
            inputs = [value for value in model.graph.input if value.name not in constants]
            stored = [folder / "test_data_set_0" / f"input_{k}.pb" for k in range(len(inputs))]
            arrays = [_read(path, value.type) for path, value in zip(stored, inputs, strict=True)]
            yield Case(f"{kind}/{folder.name}", model, dict(zip((v.name for v in inputs), arrays, strict=True)))


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return onnx.numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _light_cases() -> Iterator[Case]:
    for path in sorted((DATA / "light").glob("*.onnx")):
        model = onnx.load(path)
        constants = {tensor.name for tensor in model.graph.initializer}
        rng = np.random.default_rng(0)
        feeds = {
            value.name: rng.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim], np.float32)
            for value in model.graph.input
            if value.name not in constants
        }
        yield Case(f"light/{path.stem}", model, feeds)


def is_random(case: Case) -> bool:
    nodes = {node.op_type.lower() for node in case.model.graph.node}
    return any(op in nodes for op in RANDOM) or any(name in case.name for name in RANDOM)


@pytest.fixture(autouse=True)
def _newest_opset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ONNX Runtime try the opset that the onnx package is working on."""
    monkeypatch.setenv("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")


def with_constant_inputs(case: Case) -> Case | None:
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
    return Case(case.name, made, {})


def with_dynamic_shapes(case: Case, name_of: Callable[[int], str]) -> Case:
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
    return Case(case.name, made, case.feeds)


VARIANTS: Mapping[str, Callable[[Case], Case | None]] = {
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
    if is_random(case):
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
