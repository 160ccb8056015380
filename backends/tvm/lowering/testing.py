"""For tests of rules: a model from ONNX text, imported by our rules and run, beside ONNX Runtime's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx.parser
import tvm
from tvm import relax

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.pipeline import compile_module
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import disagreement, run_onnxruntime

HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'


def model(text: str) -> onnx.ModelProto:
    """A model of opset 17 from ONNX text, which may have a header of its own."""
    return onnx.parser.parse_model(text if text.lstrip().startswith("<") else HEADER + text)


def answers(proto: onnx.ModelProto, feeds: Mapping[str, Any]) -> Sequence[Any]:
    """All outputs, from TVM. Raises UnsupportedOperator."""
    machine = Machine.of(NAMED["cpu:x86-64-v3"].with_threads(1))
    module = import_model(Model.from_proto(proto), {name: array.shape for name, array in feeds.items()})
    run: Any = relax.VirtualMachine(compile_module(module, machine), tvm.cpu())["main"]
    results = run(*(tvm.runtime.tensor(feeds[value.name]) for value in proto.graph.input))
    return [item.numpy() for item in ([results] if hasattr(results, "numpy") else results)]


def assert_agrees(text: str, feeds: Mapping[str, Any]) -> None:
    """TVM gives what ONNX Runtime gives, within the tolerance of each output's type."""
    proto = model(text)
    for want, got in zip(run_onnxruntime(proto, feeds), answers(proto, feeds), strict=True):
        reason = disagreement(want, got)
        assert not reason, reason
