"""Layouts of activations: which ones convolutions want, and what keeps them from spreading through a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import IRModule, ir, relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

LAYOUTS = {"relax.nn.conv2d": ["NHWC", "OHWI"]}
ELEMENTWISE = tuple(
    f"relax.{name}"
    for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "greater", "less")
)
FEW_PLANES = 4  # beyond, reading a pixel's channels from as many places costs more than a transposition


@tvm.transform.module_pass(opt_level=0, name="EaseLayouts")
class EaseLayouts:
    """Rewrites what TVM keeps no layout across.

    Constants of elementwise operators get the rank of what they meet, clip becomes comparisons with scalars, and
    convolutions along one axis become ones of height 1. Convolutions of bytes in groups become one for each group.
    """

    def transform_module(self, mod: IRModule, _: tvm.transform.PassContext) -> IRModule:
        """The module rewritten."""
        return _rewritten(mod, _Ease(mod))


@tvm.transform.module_pass(opt_level=0, name="ReadPlanes")
class ReadPlanes:
    """Convolutions of few channels read planes as they come, rather than after a transposition."""

    def transform_module(self, mod: IRModule, _: tvm.transform.PassContext) -> IRModule:
        """The module rewritten; unused transpositions are left to who removes dead code."""
        return _rewritten(mod, _Planes(mod))


def _rewritten(mod: IRModule, rewrite: PyExprMutator) -> IRModule:
    for var, func in mod.functions_items():
        if isinstance(func, relax.Function):
            rewrite.builder_.update_func(var, rewrite.visit_expr(func))
    return rewrite.builder_.get()


@mutator
class _Ease(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        name = _name(call)
        if name == "relax.clip":
            return self._compared(*call.args)
        if name == "relax.nn.conv1d":
            return self._flat(call)
        if name == "relax.nn.conv2d":
            return self._by_group(call)
        return _aligned(call) if name in ELEMENTWISE else call

    def _compared(self, data: relax.Expr, low: Any, high: Any) -> relax.Expr:
        dtype = str(data.ty.dtype)
        if not dtype.startswith("float"):
            return relax.op.clip(data, low, high)
        above = self.builder_.emit(relax.op.maximum(data, relax.const(float(low.value), dtype)))
        return relax.op.minimum(above, relax.const(float(high.value), dtype))

    def _flat(self, call: relax.Call) -> relax.Expr:
        """[n, c, w] as [n, c, 1, w]"""
        data, weight = (self.builder_.emit(relax.op.expand_dims(arg, 2)) for arg in call.args)
        attrs = call.attrs
        if (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) != ("NCW", "OIW", "NCW"):
            return call
        left, right = (int(size) for size in attrs.padding)
        flat = relax.op.nn.conv2d(
            data, weight, strides=[1, int(attrs.strides[0])], padding=[0, left, 0, right],
            dilation=[1, int(attrs.dilation[0])], groups=int(attrs.groups), out_dtype=attrs.out_dtype,
        )  # fmt: skip
        return relax.op.squeeze(self.builder_.emit(flat), [2])

    def _by_group(self, call: relax.Call) -> relax.Expr:
        """Groups of several channels, side by side: kernels of bytes know one group, or a channel each."""
        (data, weight), attrs = call.args, call.attrs
        groups, bytes_ = int(attrs.groups), str(data.ty.dtype) in ("int8", "uint8")
        layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout)
        if not bytes_ or groups == 1 or layouts != ("NCHW", "OIHW", "NCHW") or not isinstance(weight, ir.Constant):
            return call
        channels, kernels = data.ty.shape[1], weight.value.numpy()
        if not isinstance(channels, tirx.IntImm) or int(channels) == groups:
            return call
        size = int(channels) // groups
        parts = [
            self.builder_.emit(relax.op.nn.conv2d(
                self.builder_.emit(relax.op.strided_slice(data, [1], [k * size], [(k + 1) * size])),
                relax.const(np.ascontiguousarray(kernel)), strides=attrs.strides, padding=attrs.padding,
                dilation=attrs.dilation, out_dtype=attrs.out_dtype,
            ))
            for k, kernel in enumerate(np.split(kernels, groups))
        ]  # fmt: skip
        return relax.op.concat(parts, 1)


@mutator
class _Planes(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if _name(call) != "relax.nn.conv2d":
            return call
        planes, attrs = self._planes(call.args[0]), call.attrs
        ours = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) == ("NHWC", "OHWI", "NHWC")
        floats = str(call.args[0].ty.dtype) == str(call.args[1].ty.dtype) == "float32"
        if planes is None or not ours or not floats or int(attrs.groups) > 1:
            return call
        if not isinstance(call.args[1], ir.Constant):  # TVM's own convolution, which takes its place, reads no planes
            return call
        return relax.op.nn.conv2d(
            planes, call.args[1], strides=attrs.strides, padding=attrs.padding, dilation=attrs.dilation,
            data_layout="NCHW", kernel_layout="OHWI", out_layout="NHWC", out_dtype=attrs.out_dtype,
        )  # fmt: skip

    def _planes(self, data: relax.Expr) -> relax.Expr | None:
        """What `data` is the transposition of, if its channels are few."""
        value = self.lookup_binding(data) if isinstance(data, relax.Var) else None
        if not isinstance(value, relax.Call) or _name(value) != "relax.permute_dims":
            return None
        axes = [int(axis) for axis in value.attrs.axes or ()]
        few = axes == [0, 2, 3, 1] and int(value.args[0].ty.shape[1]) <= FEW_PLANES
        return value.args[0] if few else None


def _name(call: relax.Call) -> str:
    return str(call.op.name) if isinstance(call.op, ir.Op) else ""


def _aligned(call: relax.Call) -> relax.Call:
    ranks = [int(getattr(arg.ty, "ndim", -1)) for arg in call.args]
    args = [_of_rank(arg, max(ranks)) if 0 < rank < max(ranks) else arg
            for arg, rank in zip(call.args, ranks, strict=True)]  # fmt: skip
    return relax.Call(call.op, args, call.attrs)


def _of_rank(value: relax.Expr, rank: int) -> relax.Expr:
    if not isinstance(value, ir.Constant):
        return value
    array: Any = value.value.numpy()
    return relax.const(array.reshape((1,) * (rank - array.ndim) + array.shape), str(array.dtype))
