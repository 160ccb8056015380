"""Masks of vectors that end beyond the last element, with operands of the type that TVM declares them with.

TVM 0.27 declares LLVM's get.active.lane.mask for 32 bits, but indices that meet 64-bit data keep their 64 bits.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.tirx import compilation_pipeline

PIPELINE = "masked"
MASK = "tirx.get_active_lane_mask"


def masked_pipeline() -> str:
    """The name of TVM's default pipeline for kernels followed by `NarrowMasks`; TVM takes names alone."""
    compilation_pipeline.register_tir_pipeline(PIPELINE, _passes)
    return PIPELINE


def _passes() -> tuple[Any, Any, Any]:
    kernels, *final = compilation_pipeline.get_tir_pipeline("default")
    return tvm.transform.Sequential([kernels, NarrowMasks]), *final


def _narrowed(func: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tirx.PrimFunc:
    def narrow(call: Call) -> Call:
        if getattr(call.op, "name", "") != MASK or all(str(arg.ty.dtype) == "int32" for arg in call.args):
            return call
        return Call(call.op, [arg.astype("int32") for arg in call.args], call.attrs, ret_ty=call.ty)

    return func.with_body(tvm_ffi.structural_map(func.body, (Call, narrow)))


NarrowMasks = tirx.transform.prim_func_pass(_narrowed, opt_level=0, name="NarrowMasks")
