"""Weights beside the code: large constants become parameters, their bytes a file that is mapped, not read.

Linked into the library they would cost compile time (3.0 s instead of 0.1 s for the 45 MB of a ResNet-18), be copied
on load, and meet the 2 GB that code can address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import IRModule, relax

ALIGNMENT = 64  # as kernels want their arguments
LARGE_BYTES = 1024  # smaller constants stay in the library


@dataclass(frozen=True)
class Place:
    """Where one tensor lies in the file of weights: offset in bytes, a multiple of 64."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


def lift_weights(mod: IRModule) -> tuple[IRModule, list[Any]]:
    """The module with large constants of `main` as parameters behind its own, and these as TVM tensors, in order."""
    lifter = _Lifter()
    main = lifter.visit_expr(mod["main"])
    parameters = [*main.params, *lifter.parameters]
    lifted = relax.Function(parameters, main.body, main.ret_ty, main.is_pure, main.attrs)
    result = IRModule({var: func for var, func in mod.functions_items() if var.name_hint != "main"}, attrs=mod.attrs)
    result["main"] = lifted
    return result, lifter.tensors


class WeightsFile:
    """A file for the weights of one program, or of several, in which equal ones lie once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets: dict[bytes, int] = {}

    def write(self, tensors: Sequence[Any]) -> tuple[Place, ...]:
        """Write the tensors one behind the other, behind those that are there; returns their places."""
        if not tensors:
            return ()
        with self.path.open("ab") as file:
            return tuple(
                Place(str(tensor.dtype), tuple(int(dim) for dim in tensor.shape), self._offset(tensor, file))
                for tensor in tensors
            )

    def _offset(self, tensor: Any, file: BinaryIO) -> int:
        content = _bytes_of(tensor).data
        digest = blake2b(content).digest()
        if digest not in self._offsets:
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            self._offsets[digest] = file.tell()
            file.write(content)
        return self._offsets[digest]


def map_weights(places: Sequence[Place], path: Path) -> list[Any]:
    """The tensors of a file as TVM tensors that lie in its pages. Raises ValueError when it is too short."""
    if not places:
        return []
    file = np.memmap(path, np.uint8, mode="c")
    return [_mapped(file, place) for place in places]


def _mapped(file: np.memmap[Any, Any], place: Place) -> Any:
    size = _size_of(place.dtype, place.shape)
    if place.offset + size > file.size:
        raise ValueError(f"{file.size} bytes; a tensor ends at {place.offset + size}")
    return tvm.runtime.from_dlpack(file[place.offset : place.offset + size])._create_view(place.shape, place.dtype)


def _bytes_of(tensor: Any) -> NDArray[Any]:
    """The memory itself, without copying."""
    size = _size_of(tensor.dtype, tensor.shape)
    return np.from_dlpack(tensor._create_view((size,), "uint8"))


def _size_of(dtype: str, shape: Sequence[int]) -> int:
    return int((tvm.DataType(dtype).bits * int(np.prod(shape)) + 7) // 8)


@relax.expr_functor.mutator
class _Lifter(relax.PyExprMutator):
    """Puts a parameter for every large constant; equal ones are one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters: list[relax.Var] = []
        self.tensors: list[Any] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], relax.Var] = {}

    def visit_generic_const_(self, op: tvm.ir.GenericConst) -> relax.Expr:
        tensor = op.value
        if not isinstance(tensor, tvm.runtime.Tensor) or _size_of(tensor.dtype, tensor.shape) < LARGE_BYTES:
            return op
        key = (str(tensor.dtype), tuple(tensor.shape), blake2b(_bytes_of(tensor).data).digest())
        if key not in self._known:
            self._known[key] = relax.Var(f"weight{len(self.tensors)}", op.ty)
            self.parameters.append(self._known[key])
            self.tensors.append(tensor)
        return self._known[key]
