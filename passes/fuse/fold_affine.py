"""Fold per-channel scales and shifts (BatchNormalization, Mul, Add ...) into the linear layer before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip
from lwc.compiler.core.plan import Site
from lwc.passes.edit import Names, opset, remove, replace_node, site, sole_user
from lwc.passes.fuse.affine import Affine, affine_of
from lwc.passes.fuse.linear import Linear, linear_of, transformed, with_parameters


@dataclass(frozen=True)
class FoldAffine(Pass):
    """s * (W x + b) + t -> W' x + b'      W' = s W      b' = s b + t      (s, t per output channel)

    for Conv, ConvTranspose and Gemm; a MatMul takes a scale only. BatchNormalization of inference is
    s = gamma / sqrt(var + eps), t = beta - mean s. Computed in float64, then rounded to the weight's type.
    Needs constant W, b, s, t; the layer's result must have no other reader and be no graph output. A weight that
    others share is copied, not changed. Stays: what overflows the weight's type. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "fold-affine"

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        changed: list[Site] = []
        skipped: list[Skip] = []
        names, version = Names(model), opset(model)
        for graph in model.graphs():
            for node in graph:
                layer = linear_of(node)
                while layer is not None and (follower := _follower(layer, version)) is not None:
                    affine, last = follower
                    weight, bias = transformed(layer, affine.scale, affine.shift)
                    if not (np.isfinite(weight).all() and (bias is None or np.isfinite(bias).all())):
                        skipped.append(Skip(site(last), f"the weights would overflow {weight.dtype}"))
                        break
                    changed += [site(layer.node), site(last)]
                    layer = linear_of(_fold(layer, last, with_parameters(layer, weight, bias, names)))
        return Outcome(tuple(dict.fromkeys(changed)), tuple(skipped))


def _follower(layer: Linear, version: int) -> tuple[Affine, ir.Node] | None:
    """The only reader of the layer's result, if it scales or shifts channels."""
    result = layer.node.outputs[0]
    user = sole_user(result)
    if user is None or user.graph is not layer.node.graph:
        return None
    affine = affine_of(user, version, layer.channels, layer.rank, layer.axis)
    if affine is None or affine.x is not result or (affine.shifts and not layer.takes_shift):
        return None
    return affine, user


def _fold(layer: Linear, last: ir.Node, folded: ir.Node) -> ir.Node:
    """Put the new layer where the last node was, under the old layer's name."""
    folded.name = layer.node.name
    replace_node(last, folded)
    remove(layer.node)
    return folded
