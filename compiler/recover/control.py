"""If, Loop and Scan: operators that hold graphs, run by whoever calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
import torch
from torch import Tensor

from lwc.compiler.recover.operators.attributes import Attributes

# Computes a subgraph for values of its inputs, in order; what it captures is known to the caller.
Run = Callable[[ir.Graph, Sequence[Tensor | None]], list[Tensor]]
Control = Callable[[Run, Attributes, Sequence["Tensor | None"]], list[Tensor]]


def branch(run: Run, a: Attributes, inputs: Sequence[Tensor | None]) -> list[Tensor]:
    """The branch that the condition says."""
    (condition,) = inputs
    assert condition is not None
    return run(a.graph("then_branch" if bool(condition) else "else_branch"), [])


def loop(run: Run, a: Attributes, inputs: Sequence[Tensor | None]) -> list[Tensor]:
    """The body until its condition is false or the count reached; carried values, then what was collected."""
    count, condition, *carried = inputs
    body = a.graph("body")
    collected: list[list[Tensor]] = [[] for _ in range(len(body.outputs) - 1 - len(carried))]
    go = True if condition is None else bool(condition)
    step = 0
    while go and (count is None or step < int(count)):
        more, *found = run(body, [torch.tensor(step), torch.tensor(go), *carried])
        carried = list(found[: len(carried)])
        for series, value in zip(collected, found[len(carried) :], strict=True):
            series.append(value)
        go, step = bool(more), step + 1
    return [*(value for value in carried if value is not None), *map(torch.stack, collected)]


def scan(run: Run, a: Attributes, inputs: Sequence[Tensor | None]) -> list[Tensor]:
    """The body along an axis of the scanned inputs."""
    body, scanned = a.graph("body"), a.integer("num_scan_inputs")
    states = list(inputs[: len(inputs) - scanned])
    made = len(body.outputs) - len(states)
    series = [x for x in inputs[len(states) :] if x is not None]
    ins = _along(a, "scan_input", scanned)
    outs = _along(a, "scan_output", made)
    parts = [x.unbind(axis)[:: -1 if back else 1] for x, (axis, back) in zip(series, ins, strict=True)]
    collected: list[list[Tensor]] = [[] for _ in range(made)]
    for slices in zip(*parts, strict=True):
        found = run(body, [*states, *slices])
        states = list(found[: len(states)])
        for kept, value in zip(collected, found[len(states) :], strict=True):
            kept.append(value)
    ends = [torch.stack(kept[:: -1 if back else 1], axis) for kept, (axis, back) in zip(collected, outs, strict=True)]
    return [*(state for state in states if state is not None), *ends]


def _along(a: Attributes, what: str, count: int) -> list[tuple[int, bool]]:
    """Axis, and whether it is gone along backwards, of each scanned value."""
    axes, directions = a.ints(f"{what}_axes", [0] * count) or [], a.ints(f"{what}_directions", [0] * count) or []
    return [(axis, bool(direction)) for axis, direction in zip(axes, directions, strict=True)]


CONTROL: Mapping[str, Control] = {"If": branch, "Loop": loop, "Scan": scan}
