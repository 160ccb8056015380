"""What is known at compile time of the dimensions of values and of small integer vectors made from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from lwc.passes.canonicalize.dimensions import Entry, named
from lwc.passes.edit import Array, constant_array

MAX_ENTRIES = 64
# What careless exporters call every unknown dimension, against ONNX's rule that equal names are equal sizes.
PLACEHOLDERS = frozenset({"?", "-1", "None", "none", "null", "unk", "unknown", "dyn", "dynamic"})
KINDS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


@dataclass(frozen=True)
class Vector:
    """entries: in order;  scalar: rank 0 instead of 1;  dtype: INT64, INT32 or BOOL"""

    entries: tuple[Entry, ...]
    scalar: bool = False
    dtype: ir.DataType = ir.DataType.INT64

    def array(self) -> Array | None:
        """The numbers when all are known."""
        if not all(isinstance(entry, int) for entry in self.entries):
            return None
        array = np.array(self.entries, dtype=self.dtype.numpy())
        return array.reshape(()) if self.scalar else array


@dataclass(frozen=True)
class Facts:
    """Working memory of one walk over a model."""

    vectors: dict[ir.Value, Vector] = field(default_factory=dict)
    dims: dict[ir.Value, list[Entry]] = field(default_factory=dict)

    def dims_of(self, value: ir.Value | None) -> list[Entry] | None:
        """The dimensions of a value; None when not even their number is known."""
        if value is None:
            return None
        if value not in self.dims:
            return annotated_dims(value)
        return self.dims[value]

    def vector_of(self, value: ir.Value | None) -> Vector | None:
        """The entries of a small integer value; constants are read as they are met."""
        if value is None:
            return None
        if value not in self.vectors and value.is_initializer():
            array = constant_array(value)
            dtype = value.const_value.dtype if value.const_value is not None else ir.DataType.UNDEFINED
            if array is not None and array.ndim <= 1 and array.size <= MAX_ENTRIES and dtype in KINDS:
                self.vectors[value] = Vector(tuple(int(x) for x in array.reshape(-1)), array.ndim == 0, dtype)
        return self.vectors.get(value)

    def note_dims(self, value: ir.Value, found: list[Entry] | None) -> None:
        """Combine what was derived for a value with its annotation; numbers of the annotation win."""
        annotated = annotated_dims(value)
        if found is None or (annotated is not None and len(annotated) != len(found)):
            return
        fallback = annotated or [named(f"{value.name}[{axis}]") for axis in range(len(found))]
        self.dims[value] = [
            known if isinstance(known, int) or derived is None else derived
            for known, derived in zip(fallback, found, strict=True)
        ]


def annotated_dims(value: ir.Value) -> list[Entry] | None:
    """The annotated shape; a dimension without a name is called `value[axis]`, and so equals itself."""
    if value.shape is None:
        return None
    return [
        dim if isinstance(dim, int) else named(_name(dim) or f"{value.name}[{axis}]")
        for axis, dim in enumerate(value.shape)
    ]


def _name(dim: ir.SymbolicDim) -> str | None:
    return None if dim.value in PLACEHOLDERS else dim.value
