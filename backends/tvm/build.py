"""The TVM backend: sessions compiled in memory, deployables as a shared library beside the ONNX model."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import tvm

from lwc.backends.serving import tapped
from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.pipeline import compile_module
from lwc.backends.tvm.session import TvmSession
from lwc.compiler.core.backend import Port, Session
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import Target


class Tvm:
    """Apache TVM with the schedules of this package, on CPUs."""

    name = "tvm"
    may_crash = True

    def version(self) -> str:
        return f"tvm {tvm.__version__}"

    def session(
        self, model: Model, target: Target, outputs: Sequence[str] = (), *, lean: bool = False
    ) -> Session:
        """Compile `model` and run it from memory; `outputs` names values to return besides the graph's own outputs.

        Raises UnsupportedOperator, BadInput.
        """
        model = tapped(model, outputs)
        executable = compile_module(import_model(model), Machine.of(target))
        ports = [[port_of(model, value) for value in values] for values in (model.graph.inputs, model.graph.outputs)]
        return TvmSession(executable, ports[0], ports[1], model.name)


def port_of(model: Model, value: ir.Value) -> Port:
    """What a session says of a graph's input or output. Raises BadInput where a dimension is not fixed."""
    if value.dtype is None or value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        raise BadInput(f"{model.name}: TVM needs all dimensions of '{value.name}' fixed.", "Give them by --shape.")
    return Port(value.name or "", value.dtype.numpy(), tuple(int(dim) for dim in value.shape))  # type: ignore[arg-type]
