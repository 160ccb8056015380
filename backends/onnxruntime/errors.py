"""ONNX Runtime's exceptions as ours: one sentence that names the operator or node."""

from __future__ import annotations

import re

import onnxruntime.capi.onnxruntime_pybind11_state as ort_errors

from lwc.compiler.core.errors import BadInput, InvalidGraph, LwcError, NotAModel, UnsupportedOperator

# Wordings of ONNX Runtime 1.20 to 1.31 for an operator without schema or kernel.
_UNKNOWN_OPERATOR = (
    re.compile(r"No Op registered for (?P<op>\w+)"),
    re.compile(r"(?P<op>[\w.]+:\w+)\(-?\d+\) is not a registered function/op"),
    re.compile(r"Could not find an implementation for (?P<op>[\w.:]+)\((?P<version>\d+)\)"),
)
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE = re.compile(r"\S*/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])")


def convert(error: Exception, model: str) -> LwcError:
    """The error of ours that says what `error` says about `model`."""
    text = plain(error)
    for pattern in _UNKNOWN_OPERATOR:
        found = pattern.search(text)
        if found:
            return UnsupportedOperator(
                f"{model}: ONNX Runtime cannot run operator '{found['op']}'.", f"It says: {text}"
            )
    if isinstance(error, ort_errors.NotImplemented):
        return UnsupportedOperator(f"{model}: ONNX Runtime has no kernel for it: {text}")
    if isinstance(error, ort_errors.InvalidProtobuf):
        return NotAModel(f"{model}: not an ONNX model that ONNX Runtime can read: {text}")
    if isinstance(error, ort_errors.InvalidGraph):
        return InvalidGraph(f"{model}: {text}")
    return BadInput(f"{model}: ONNX Runtime failed: {text}")


def plain(error: Exception) -> str:
    """The message on one line, without status codes and source positions."""
    text = _PREFIX.sub("", str(error)).replace("This is an invalid model. ", "")
    return " ".join(_SOURCE.sub("", text).split())
