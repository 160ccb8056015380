"""Let a convolution or pooling pad by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext
from lwc.compiler.core.plan import Site
from lwc.passes.edit import constant_number, input_of, ints_of, is_op, opset, remove, site, sole_user

FIRST_WITH_COUNT_INCLUDE_PAD = 7
FIRST_WITH_PAD_INPUTS = 11


@dataclass(frozen=True)
class FoldPad(Pass):
    """Conv(Pad(x, p)) -> Conv(x) with pads + p

    Needs zeros, for MaxPool minus infinity; constant p, not negative, and none on batch or channels; a Pad that
    nothing else reads. AveragePool then counts its padding as values: if it had some that it did not count, or
    rounds its size up, it stays. A pooling stays as well when the pads would reach its kernel's size, which ONNX
    Runtime refuses. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "fold-pad"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        version = opset(model)
        for graph in model.graphs():
            for pad in graph:
                user = sole_user(pad.outputs[0]) if is_op(pad, "Pad") else None
                if user is None or user.graph is not graph or user.inputs[0] is not pad.outputs[0]:
                    continue
                pads = _spatial_pads(pad, version)
                merged = _merged(pad, user, pads, version) if pads is not None else None
                if merged is None:
                    continue
                changed += [site(pad), site(user)]
                user.attributes["pads"] = ir.AttrInt64s("pads", merged)
                if user.op_type == "AveragePool":
                    user.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
                user.replace_input_with(0, pad.inputs[0])
                remove(pad)
        return Outcome(tuple(changed))


def _spatial_pads(pad: ir.Node, version: int) -> list[int] | None:
    """[begin of each spatial axis, then end of each]; None when the pads are not such."""
    pads = ints_of(pad, "pads", 1)
    axes = ints_of(pad, "axes", 3)
    if pads is None or axes is None or pad.attributes.get_string("mode", "constant") != "constant":
        return None
    dims = len(pads) // 2 if not axes else len(pad.inputs[0].shape or ()) if pad.inputs[0] is not None else 0
    if dims < 3:
        return None
    begins, ends = [0] * dims, [0] * dims
    for k, axis in enumerate(axes or range(dims)):
        begins[axis], ends[axis] = pads[k], pads[k + len(pads) // 2]
    if any(begins[:2] + ends[:2]) or min(begins + ends) < 0:
        return None
    return begins[2:] + ends[2:]


def _fill_value(pad: ir.Node, version: int) -> float | None:
    if version < FIRST_WITH_PAD_INPUTS:
        return pad.attributes.get_float("value", 0.0)
    value = input_of(pad, 2)
    return 0.0 if value is None else constant_number(value)


def _merged(pad: ir.Node, user: ir.Node, pads: list[int], version: int) -> list[int] | None:
    """The user's pads with the Pad's added; None when it cannot take them."""
    attributes = user.attributes
    fill = _fill_value(pad, version)
    if attributes.get_string("auto_pad", "NOTSET") != "NOTSET" or fill is None:
        return None
    own = list(attributes.get_ints("pads", (0,) * len(pads)))
    if len(own) != len(pads):
        return None
    total = [a + b for a, b in zip(own, pads, strict=True)]
    if is_op(user, "Conv"):
        return total if fill == 0 else None
    if is_op(user, "ConvInteger"):
        return total if fill == 0 and input_of(user, 2) is None else None
    return total if _pool_takes(user, fill, own, total, version) else None


def _pool_takes(user: ir.Node, fill: float, own: list[int], total: list[int], version: int) -> bool:
    attributes = user.attributes
    kernel = attributes.get_ints("kernel_shape", ())
    reaches = any(p >= k for p, k in zip(total, (*kernel, *kernel), strict=True)) if kernel else True
    if reaches or attributes.get_int("ceil_mode", 0) != 0:
        return False
    if is_op(user, "MaxPool"):
        return fill == -np.inf and len(user.outputs) == 1 and set(attributes.get_ints("dilations", ())) <= {1}
    counted = attributes.get_int("count_include_pad", 0) == 1 or not any(own)
    return is_op(user, "AveragePool") and fill == 0 and counted and version >= FIRST_WITH_COUNT_INCLUDE_PAD
