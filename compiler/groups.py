"""Which channels of a model leave together, and which cannot leave, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lwc.compiler.analysis.channels import Group, Refusal, find_channels
from lwc.compiler.analysis.group_sizes import macs_of, parameters_of
from lwc.compiler.analysis.shapes import fix_dimensions
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import find_target
from lwc.compiler.prepare import clean_model
from lwc.compiler.sources import Openable, open_source


@dataclass(frozen=True)
class GroupLine:
    """One group. name: of its site;  channels: so many, which leave one by one;  heads: each is a head

    tensors: the constants they lie in, with the axis;  exact: removing channels equals zeroing what is read of them
    parameters, macs: what the whole group has a part in
    """

    name: str
    op: str
    channels: int
    heads: bool
    exact: bool
    tensors: tuple[str, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class GroupTable:
    """groups: in the order of the graph;  refused: axes that must stay whole"""

    groups: tuple[GroupLine, ...]
    refused: tuple[Refusal, ...]


def groups_of(
    source: Openable, *, shape: Mapping[str, Sequence[int]] | None = None, target: str = "host"
) -> GroupTable:
    """The groups of the model as `lwc compile` sees it, once it is cleaned. Raises BadInput, UsageError."""
    original = open_source(source).model
    if shape:
        original = original.fork()
        fix_dimensions(original.ir, shape)
    clean, _ = clean_model(original, find_target(target))
    found = find_channels(clean.ir)
    return GroupTable(tuple(_line(group, clean) for group in found.groups), found.refused)


def _line(group: Group, model: Model) -> GroupLine:
    nodes = model.by_name()
    tensors = dict.fromkeys(f"{slot.value}[{slot.axis}]" for slot in group.constants)
    return GroupLine(
        group.site.name, group.site.op, group.size, group.heads, group.exact, tuple(tensors),
        parameters_of(group, nodes), macs_of(group, nodes),
    )  # fmt: skip
