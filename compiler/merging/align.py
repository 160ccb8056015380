"""Several models of one architecture as groups of tensors: each parameter of the first with its counterparts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.matching import Matching, Unmatched, match, shape_of
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.external import move_to_file
from lwc.compiler.core.model import Model
from lwc.compiler.core.opset import ensure_opset
from lwc.compiler.core.pass_ import Pass, PassContext, Pipeline
from lwc.compiler.core.progress import Progress
from lwc.compiler.core.target import find_target
from lwc.compiler.merging.roles import Role, refuse_quantized, role_of
from lwc.passes import clean
from lwc.passes.canonicalize.default_domain import DefaultDomain
from lwc.passes.canonicalize.inline_functions import InlineFunctions
from lwc.passes.canonicalize.lift_constants import LiftConstants
from lwc.passes.canonicalize.name_nodes import NameNodes
from lwc.passes.canonicalize.unlist_initializers import UnlistInitializers

# What a model is matched by as it was exported: nothing that is computed changes, and every constant is a tensor.
PLAIN: tuple[Pass, ...] = (DefaultDomain(), UnlistInitializers(), InlineFunctions(), LiftConstants(), NameNodes())


@dataclass(frozen=True, eq=False)
class Group:
    """One parameter in all models. value: in the first one, aligned;  values: what each reads, the first included"""

    value: ir.Value
    role: Role
    values: tuple[ir.Value, ...]

    @property
    def name(self) -> str:
        return self.value.name or ""

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.value)

    @property
    def tensors(self) -> tuple[ir.TensorProtocol, ...]:
        return tuple(value.const_value for value in self.values if value.const_value is not None)


@dataclass(frozen=True)
class Missing:
    """A tensor or operator of `model` that has no counterpart in `other`."""

    model: str
    other: str
    tensor: Unmatched


@dataclass(frozen=True, eq=False)
class Aligned:
    """models: the first is what the merged model looks like;  cleaned: fusions that differ were undone in all

    guessed: layers that only their order tells apart
    """

    models: tuple[Model, ...]
    groups: tuple[Group, ...]
    missing: tuple[Missing, ...]
    guessed: tuple[str, ...] = ()
    cleaned: bool = False


class DoesNotMatch(BadInput):
    """Models of different architectures. missing: all that has no counterpart"""

    code = "does_not_match"

    def __init__(self, missing: Sequence[Missing]) -> None:
        first = missing[0]
        tensor, shape = first.tensor, "" if first.tensor.shape is None else f" {list(first.tensor.shape)}"
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        super().__init__(
            f"The models are of different architectures: '{tensor.name}'{shape} of '{first.model}' has "
            f"no counterpart in '{first.other}', because {tensor.reason}{more}.",
            "With --partial, what has no counterpart stays as the first has it.",
        )
        self.missing = tuple(missing)


def align(models: Sequence[Model], progress: Progress) -> Aligned:
    """Match every model with the first: as they are, and where that leaves something, cleaned.

    Raises BadInput for quantized models, UnsupportedOpset where opsets differ and one cannot be raised.
    """
    progress.stage("Matching", len(models) - 1)
    refuse_quantized(models)
    plain = matched(_plain(models), progress)
    if not plain.missing:
        return plain
    progress.stage("Matching, fusions undone", len(models) - 1)
    cleaned = matched(_cleaned(models), progress, cleaned=True)
    return cleaned if len(cleaned.missing) < len(plain.missing) else plain


def _plain(models: Sequence[Model]) -> tuple[Model, ...]:
    forks = tuple(model.fork() for model in models)
    newest = max(model.opset for model in forks)
    context = PassContext(find_target("host"))
    for fork in forks:
        if fork.opset < newest:
            ensure_opset(fork.ir, newest)
        Pipeline(PLAIN).run(fork.ir, context)
    return forks


def _cleaned(models: Sequence[Model]) -> tuple[Model, ...]:
    forks = _plain(models)
    target = find_target("host")
    for fork in forks:
        clean(target).run(fork.ir, PassContext(target))
        _unfold_transposes(fork.ir)
        move_to_file(fork.ir)
    return forks


def _unfold_transposes(model: ir.Model) -> None:
    """Gemm(x, W, transB) -> Gemm(x, W^T): exporters write a linear layer either way."""
    for graph in model.graphs():
        for node in graph:
            weight = node.inputs[1] if node.op_type == "Gemm" and node.domain == "" else None
            if weight is None or weight.const_value is None or not node.attributes.get_int("transB", 0):
                continue
            tensor = ir.tensor(np.ascontiguousarray(weight.const_value.numpy().T))
            turned = ir.Value(name=free_name(graph, f"{weight.name}.T"), type=weight.type, const_value=tensor)
            turned.shape = ir.Shape(tensor.shape.numpy())
            graph.register_initializer(turned)
            node.replace_input_with(1, turned)
            node.attributes.pop("transB")
            if not weight.uses() and weight.graph is graph:
                del graph.initializers[weight.name or ""]


def matched(models: tuple[Model, ...], progress: Progress, cleaned: bool = False) -> Aligned:
    """Every model matched with the first, as they are."""
    first, matchings = models[0], []
    for model in models[1:]:
        matchings.append(match(first, model))
        progress.advance()
    missing = [
        Missing(*names, tensor)
        for model, matching in zip(models[1:], matchings, strict=True)
        for names, only in (
            ((first.name, model.name), matching.only_a),
            ((model.name, first.name), matching.only_b),
        )
        for tensor in only
    ]
    guessed = dict.fromkeys(name for matching in matchings for name in matching.guessed)
    return Aligned(models, tuple(_groups(matchings)), tuple(missing), tuple(guessed), cleaned)


Place = tuple[ir.Node, int]


def _groups(matchings: Sequence[Matching]) -> Iterator[Group]:
    """What is read in the same slots in every model is one parameter, also where the first shares it with more."""
    for values, places in _places(matchings).items():
        role = role_of(values[0], places)
        if role is not Role.CONSTANT:
            yield Group(own_value(values[0], places), role, values)


def _places(matchings: Sequence[Matching]) -> dict[tuple[ir.Value, ...], list[Place]]:
    """What the models read in a slot -> the slots of the first model, of those that all have."""
    read: dict[Place, list[ir.Value]] = {}
    for matching in matchings:
        for slot in matching.slots:
            read.setdefault((slot.node, slot.index), [slot.a]).append(slot.b)
    found: dict[tuple[ir.Value, ...], list[Place]] = {}
    for place, values in read.items():
        if len(values) == len(matchings) + 1:
            found.setdefault(tuple(values), []).append(place)
    return found


def own_value(value: ir.Value, places: Sequence[Place]) -> ir.Value:
    """A value that only these slots read: the value itself, or a new one of the same tensor."""
    if len(value.uses()) == len(places):
        return value
    graph = value.graph
    assert isinstance(graph, ir.Graph)
    name = free_name(graph, f"{value.name}.{places[0][0].name}")
    own = ir.Value(name=name, type=value.type, shape=value.shape, const_value=value.const_value)
    graph.register_initializer(own)
    for node, index in places:
        node.replace_input_with(index, own)
    return own


def free_name(graph: ir.Graph, wanted: str) -> str:
    """A name that no initializer has."""
    name, count = wanted, 0
    while name in graph.initializers:
        count += 1
        name = f"{wanted}.{count}"
    return name
