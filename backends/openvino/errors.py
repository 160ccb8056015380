"""OpenVINO's exceptions as ours: one sentence that names operators, and nodes where OpenVINO does."""

from __future__ import annotations

import re

from lwc.compiler.core.errors import BadInput, LwcError, UnsupportedOperator

# Wordings of OpenVINO 2026.4: operators as 'Add-17' or 'com.microsoft.FusedConv', nodes by name or output.
_NO_RULE = re.compile(r"No conversion rule found for operations: (?P<ops>.+?)(?= To facilitate|$)")
_FAILED_NODE = re.compile(r"While validating ONNX node '<Node\((?P<op>[\w.]+)\): (?P<node>[^>]*)>': (?P<why>.*)", re.S)
_NOT_ON_CPU = re.compile(r"CPU plug-in doesn't support (?P<op>\w+) operation.*?Operation name: (?P<node>\S+)")
_VERSION = re.compile(r"-\d+$")
_POSITION = re.compile(r"(Exception from \S+:\d+:?|Check '.*?' failed at \S+:\d+:?)\s*", re.S)
_TAIL = re.compile(r"\s*(Summary: -- |To facilitate the conversion of unsupported operations).*$")


def convert(error: Exception, model: str) -> LwcError:
    """The error of ours that says what `error` says about `model`."""
    text = plain(error)
    unknown = _NO_RULE.search(text)
    if unknown:
        ops = ", ".join(f"'{_operator(op)}'" for op in unknown["ops"].split(", "))
        return UnsupportedOperator(f"{model}: OpenVINO cannot run operator {ops}.")
    for pattern in (_FAILED_NODE, _NOT_ON_CPU):
        found = pattern.search(text)
        if found:
            why = _TAIL.sub("", found.groupdict().get("why") or found[0])
            return UnsupportedOperator(f"{model}: OpenVINO cannot run node '{found['node']}' ({found['op']}): {why}")
    return BadInput(f"{model}: OpenVINO failed: {text}")


def plain(error: Exception) -> str:
    """The message on one line, without source positions."""
    return " ".join(_POSITION.sub("", str(error)).split())


def _operator(name: str) -> str:
    """'Add-17' -> 'Add', 'com.microsoft.FusedConv' -> 'com.microsoft:FusedConv'."""
    domain, _, op = _VERSION.sub("", name.strip()).rpartition(".")
    return f"{domain}:{op}" if domain else op
