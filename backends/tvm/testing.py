"""What kernel tests share: small machines, models of one operator, TVM's answer beside ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tvm
from onnx import helper, numpy_helper
from tvm import relax, te, tirx

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.machine import KIB, Machine
from lwc.backends.tvm.pipeline import CODE_CONFIG, generate, lower, plan
from lwc.backends.tvm.schedules import scheduled
from lwc.compiler.core.model import Model

# Sums of some thousand products of numbers around one, in another order.
FP32_SUMS = 2e-5

X86 = "x86_64-linux-gnu"
NARROW = Machine(X86, "x86-64", (), 16, 16, 32 * KIB, 256 * KIB, 2)


def graph(nodes: Sequence[onnx.NodeProto], shape: Sequence[int], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """x [shape] through `nodes` to y."""
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    arrays = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    proto = helper.make_model(
        helper.make_graph(nodes, "kernel", [x], [y], arrays),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    return onnx.shape_inference.infer_shapes(proto)


def functions(proto: onnx.ModelProto, machine: Machine) -> dict[str, tirx.PrimFunc]:
    """The scheduled functions of a model, by name."""
    lowered = lower(import_model(Model.from_proto(proto, "kernel")), machine)
    return {var.name_hint: func for var, func in lowered.functions_items() if isinstance(func, tirx.PrimFunc)}


def difference(proto: onnx.ModelProto, machine: Machine, seed: int = 0) -> float:
    """The greatest difference from ONNX Runtime over the greatest of its outputs."""
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(seed).normal(size=shape).astype("float32")
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, {"x": x})[0]
    module = lower(import_model(Model.from_proto(proto, "kernel")), machine)
    run: Any = relax.VirtualMachine(generate(plan(module, machine), machine), tvm.cpu())["main"]
    found = run(tvm.runtime.tensor(x))
    got = (found if hasattr(found, "numpy") else found[0]).numpy()
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-6))


def computed(tensors: Sequence[te.Tensor], inputs: Sequence[np.ndarray], machine: Machine) -> np.ndarray:
    """The last of `tensors` as the scheduled function computes it from the others, which hold `inputs`."""
    func = scheduled(te.create_prim_func(list(tensors)).with_attr("global_symbol", "main"), machine)
    target = tvm.target.Target(machine.llvm())
    with target, tvm.transform.PassContext(opt_level=3, config=CODE_CONFIG):
        library = tvm.compile(tvm.IRModule({"main": func}), target)
    shape = [int(extent) for extent in tensors[-1].shape]
    result = tvm.runtime.tensor(np.full(shape, 7, str(tensors[-1].dtype)))
    library["main"](*(tvm.runtime.tensor(array) for array in inputs), result)
    found: np.ndarray = result.numpy()
    return found
