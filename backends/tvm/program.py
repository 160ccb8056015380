"""What TVM makes of a model: machine code, the weights that it is called with, and its plan of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import IRModule, relax

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.pipeline import generate, lower, plan
from lwc.backends.tvm.weights import lift_weights

ENTRY = "run"


@dataclass(frozen=True)
class Program:
    """executable: a VMExecutable or a loaded module, whose `main` takes the inputs and then the weights

    weights: TVM tensors
    activation_bytes: of the memory that one run holds for its intermediate values and outputs, planned at compile
        time; None where it depends on the shapes of the inputs. Scratch memory inside kernels is not in it
    """

    executable: Any
    weights: tuple[Any, ...]
    activation_bytes: int | None

    def start(self) -> tuple[relax.VirtualMachine, Callable[..., Any]]:
        """A virtual machine that runs it, and its function, which takes the inputs alone."""
        machine = relax.VirtualMachine(self.executable, tvm.cpu())
        machine.module["save_function"]("main", ENTRY, True, *self.weights)
        return machine, machine[ENTRY]


def compile_program(mod: IRModule, machine: Machine) -> Program:
    """Machine code of a module that the importer made, its large constants beside it."""
    lifted, weights = lift_weights(lower(mod, machine))
    planned = plan(lifted, machine)
    return Program(generate(planned, machine), tuple(weights), activation_bytes(planned))


def activation_bytes(planned: IRModule) -> int | None:
    """The sum of all storages that `main` allocates; None where the size of one is known at run time alone."""
    sizes: list[int | None] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Call) and expr.op == tvm.ir.Op.get("relax.vm.alloc_storage"):
            shape = expr.args[0]
            fixed = isinstance(shape, relax.ShapeExpr) and all(isinstance(n, tvm.tirx.IntImm) for n in shape.values)
            sizes.append(int(shape.values[0]) if fixed else None)

    relax.analysis.post_order_visit(planned["main"], visit)
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
