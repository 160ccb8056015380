"""The cases of the onnx package's own backend test: what operators and small models give for given inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from onnx.backend.test import loader

DATA = Path(loader.__file__).parent.parent / "data"
NEWEST_IR = 11  # that ONNX Runtime 1.20 reads; the cases need nothing newer
RANDOM = ("bernoulli", "multinomial", "randomnormal", "randomuniform", "training_dropout")


@dataclass(frozen=True)
class OnnxCase:
    """A model with one set of inputs. feeds, expected: arrays, lists of them, or None for an optional without a value

    expected: the outputs; None where the package has none;  rtol, atol: the case's own, as NumPy takes them
    """

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, Any]
    expected: Sequence[Any] | None
    rtol: float
    atol: float

    @property
    def is_random(self) -> bool:
        """Whether the outputs differ from run to run."""
        words = (self.name, *(node.op_type.lower() for node in self.model.graph.node))
        return any(random in word for random in RANDOM for word in words)


def onnx_cases() -> Iterator[OnnxCase]:
    """All of them: of single operators, stored models, and the light ones of whole networks, in this order."""
    yield from _node_cases()
    yield from _stored_cases()
    yield from _light_cases()


def given_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs without a default."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _node_cases() -> Iterator[OnnxCase]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = loader.load_model_tests(kind="node")
    for case in found:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        model.ir_version = min(model.ir_version, NEWEST_IR)
        for inputs, outputs in (case.data_sets or ())[:1]:
            feeds = {v.name: _array(item, v.type) for v, item in zip(given_inputs(model), inputs, strict=False)}
            expected = [_array(item, v.type) for v, item in zip(model.graph.output, outputs, strict=False)]
            yield OnnxCase(f"node/{case.name}", model, feeds, expected, case.rtol, case.atol)


def _array(item: Any, kind: onnx.TypeProto) -> Any:
    """Cases hold scalars and types unknown to NumPy in forms of their own."""
    if isinstance(item, onnx.TensorProto):
        return onnx.numpy_helper.to_array(item)
    if isinstance(item, (int, float, np.generic)):
        return np.asarray(item, onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))
    return item


def _stored_cases() -> Iterator[OnnxCase]:
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for folder in sorted((DATA / kind).iterdir()):
            model = onnx.load(folder / "model.onnx")
            data = folder / "test_data_set_0"
            feeds = {v.name: _read(data / f"input_{k}.pb", v.type) for k, v in enumerate(given_inputs(model))}
            expected = [_read(data / f"output_{k}.pb", v.type) for k, v in enumerate(model.graph.output)]
            yield OnnxCase(f"{kind}/{folder.name}", model, feeds, expected, 1e-3, 1e-7)


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return onnx.numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _light_cases() -> Iterator[OnnxCase]:
    for path in sorted((DATA / "light").glob("*.onnx")):
        model = onnx.load(path)
        rng = np.random.default_rng(0)
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in given_inputs(model)}
        feeds = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
        yield OnnxCase(f"light/{path.stem}", model, feeds, None, 1e-3, 1e-5)
