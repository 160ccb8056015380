"""The float format that a model asks its runtime to compute in, where that is a property of the whole model.

OpenVINO takes it as a hint when it compiles: weights and graph stay float32, kernels run in bfloat16. The mark
lies in the model's metadata, so that it travels with every fork and file; it is not part of the graph's digest.
"""

from __future__ import annotations

import onnx_ir as ir

FLOAT_FORMAT_KEY = "lwc.float_format"


def float_format(model: ir.Model) -> str:
    """Name of the choice that the model is marked with; empty when it computes in the types of its graph."""
    return model.metadata_props.get(FLOAT_FORMAT_KEY, "")


def mark_float_format(model: ir.Model, name: str) -> None:
    """Ask runtimes that can to compute in this format."""
    model.metadata_props[FLOAT_FORMAT_KEY] = name
