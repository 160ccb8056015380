"""From a Relax module to machine code: layouts, legalization, fusion, schedules, memory planning."""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import IRModule, relax, tirx

from lwc.backends.tvm.coded_products import coded_products
from lwc.backends.tvm.constants import FoldWithNumPy
from lwc.backends.tvm.grouping import attention_groups
from lwc.backends.tvm.layouts import LAYOUTS, EaseLayouts, ReadPlanes
from lwc.backends.tvm.legalize import legalizations
from lwc.backends.tvm.lowering.integer import on_codes
from lwc.backends.tvm.lowering.integer_arithmetic import quantization_arithmetic
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.masks import masked_pipeline
from lwc.backends.tvm.pairs import pair_kernels
from lwc.backends.tvm.schedules import scheduled

# Vectors that end beyond the last element become masked loads and stores instead of scalar loops. Elimination of common
# subexpressions is left to LLVM: TVM 0.27's overlooks indices used inside Let, and the code is then invalid.
CODE_CONFIG = {"tirx.enable_buffer_level_predication": True, "tirx.disable_cse_tir": True}


def compile_module(mod: IRModule, machine: Machine) -> relax.VMExecutable:
    """Machine code of every function of the module."""
    return generate(plan(lower(mod, machine), machine), machine)


def lower(mod: IRModule, machine: Machine) -> IRModule:
    """Operators into scheduled functions: the module still calls them as Relax."""
    t = relax.transform
    with tvm.target.Target(machine.llvm()):
        return tvm.transform.Sequential([
            _pass("OnCodes", on_codes),
            _pass("CodedProducts", lambda each: coded_products(each, machine)),
            t.DecomposeOpsForInference(),
            FoldWithNumPy(),
            t.FoldConstant(),
            t.EliminateCommonSubexpr(),
            t.CanonicalizeBindings(),
            _pass("QuantizationArithmetic", quantization_arithmetic),
            EaseLayouts(),
            t.ConvertLayout(LAYOUTS),
            t.Normalize(),
            FoldWithNumPy(),
            t.FoldConstant(),
            ReadPlanes(),
            relax.backend.DispatchSampling(),
            relax.backend.DispatchSortScan(),
            attention_groups(),
            t.LegalizeOps(legalizations(machine)),
            t.AnnotateTIROpPattern(),
            t.FoldConstant(),
            t.FuseOps(),
            t.FuseTIR(),
            t.DeadCodeElimination(),
            _pass("PairKernels", lambda mod: pair_kernels(mod, machine)),
            _schedule(machine),
        ])(mod)  # fmt: skip


def _pass(name: str, rewrite: Callable[[IRModule], IRModule]) -> tvm.transform.Pass:
    return tvm.transform.module_pass(lambda mod, _: rewrite(mod), opt_level=0, name=name)


def _schedule(machine: Machine) -> tvm.transform.Pass:
    @tvm.transform.module_pass(opt_level=0, name="ScheduleFunctions")
    def apply(mod: IRModule, _: tvm.transform.PassContext) -> IRModule:
        for var, func in list(mod.functions_items()):
            if isinstance(func, tirx.PrimFunc) and "tirx.is_scheduled" not in (func.attrs or {}) and not _empty(func):
                done = scheduled(func.with_attr("global_symbol", "main"), machine)
                mod[var] = done.with_attr("global_symbol", var.name_hint).with_attr("tirx.is_scheduled", True)
        return mod

    return apply


def _empty(func: tirx.PrimFunc) -> bool:
    """Whether it takes or makes an array without elements, over which there are no loops to divide."""
    shapes = [getattr(param.ty, "shape", ()) for param in func.params]
    return any(isinstance(size, tirx.IntImm) and size == 0 for shape in shapes for size in shape)


def plan(mod: IRModule, machine: Machine) -> IRModule:
    """What is left of TVM's own CPU pipeline: memory planned ahead, calls made direct."""
    from tvm.relax.backend.cpu_generic import pipeline

    target = tvm.target.Target(machine.llvm())
    with target:
        return tvm.transform.Sequential(pipeline.dataflow_lower_passes(target) + pipeline.finalize_passes(target))(mod)


def generate(planned: IRModule, machine: Machine) -> relax.VMExecutable:
    """Machine code of a module whose memory is planned."""
    target = tvm.target.Target(machine.llvm())
    with target, tvm.transform.PassContext(opt_level=3, config=CODE_CONFIG):
        return tvm.compile(planned, target, relax_pipeline=None, tir_pipeline=masked_pipeline())
