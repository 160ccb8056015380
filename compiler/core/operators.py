"""What a node may look like: ONNX's operator schemas, read once per operator and opset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import onnx

from lwc.compiler.core.errors import UnsupportedOpset

STANDARD = ""

# Fused by ONNX Runtime's optimizer and saved in the standard domain before, or instead of, being standardized.
_OF_RUNTIMES = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})


@dataclass(frozen=True)
class Signature:
    """Counts of inputs and outputs, and attribute name -> (type as in AttributeProto, required)."""

    inputs: range
    outputs: range
    attributes: Mapping[str, tuple[int, bool]]


@cache
def newest_versions() -> dict[str, int]:
    """Domain -> its newest version that the installed onnx knows."""
    newest: dict[str, int] = {STANDARD: onnx.defs.onnx_opset_version()}
    for schema in onnx.defs.get_all_schemas_with_history():
        newest[schema.domain] = max(newest.get(schema.domain, 0), schema.since_version)
    return newest


def is_defined(domain: str, op_type: str, version: int) -> bool:
    """Whether ONNX itself says what the operator does at this version."""
    return domain in newest_versions() and _schema(domain, op_type, version) is not None


@cache
def signature(domain: str, op_type: str, version: int) -> Signature | None:
    """None for operators that ONNX does not define. Raises LookupError for one that its domain does not have."""
    if domain not in newest_versions():
        return None
    schema = _schema(domain, op_type, version)
    if schema is None:
        if domain == STANDARD and op_type in _OF_RUNTIMES:
            return None
        where = "the standard domain" if domain == STANDARD else f"domain '{domain}'"
        raise LookupError(f"{where} has no operator '{op_type}' at opset {version}")
    return Signature(
        range(schema.min_input, schema.max_input + 1),
        range(schema.min_output, schema.max_output + 1),
        {name: (_kind(attribute.type), attribute.required) for name, attribute in schema.attributes.items()},
    )


def check_opset(model: str, domain: str, version: int) -> None:
    """Raise UnsupportedOpset for versions of ONNX's domains that the installed onnx does not know."""
    newest = newest_versions().get(domain)
    if newest is None:
        return
    what = "opset" if domain == STANDARD else f"'{domain}' version"
    if version < 1 or version > newest:
        raise UnsupportedOpset(
            f"{model}: {what} {version} is unknown; onnx {onnx.__version__} knows those up to {newest}.",
            "Update onnx, or export with an older one." if version > newest else "",
        )


def _kind(kind: onnx.defs.OpSchema.AttrType) -> int:
    """AttrType.INTS -> AttributeProto.INTS; the two enumerations share names."""
    value: int = onnx.AttributeProto.AttributeType.Value(str(kind).removeprefix("AttrType."))
    return value


def _schema(domain: str, op_type: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated else schema
