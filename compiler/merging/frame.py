"""Models of one architecture as one graph with several sets of tensors, and the channels that can change places in it.

Channels that can leave together can also change places together (compiler/analysis/channels.py): the graph gives the
same outputs as long as every tensor that a group lies on has its channels in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.channels import Channels, find_channels
from lwc.compiler.analysis.channels import Lying as Laid
from lwc.compiler.core.external import move_to_file
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import Pass, PassContext, Pipeline
from lwc.compiler.core.progress import Progress
from lwc.compiler.core.skeleton import initialized
from lwc.compiler.core.target import find_target
from lwc.compiler.merging.align import Aligned, Group, free_name, matched
from lwc.passes import CANONICALIZE, FUSE, ROUNDS
from lwc.passes.canonicalize.infer_shapes import InferShapes
from lwc.passes.canonicalize.name_nodes import NameNodes
from lwc.passes.fuse.fold_affine import FoldAffine
from lwc.passes.solvers.permutation import Lying, Orders, moved

# Axes are understood best in the cleaned form; BatchNormalizations stay, for their statistics to be estimated anew.
TIDY: tuple[Pass, ...] = (*CANONICALIZE, *(step for step in FUSE if not isinstance(step, FoldAffine)), NameNodes())


@dataclass(frozen=True, eq=False)
class Frame:
    """One graph that all models fit.

    model: the first, tidied;  aligned: what of it has counterparts;  channels: of its groups
    sizes: channels of each group that can be put in another order
    layout: what lies on each of its initializers, by their places among all
    stay: weights whose outputs cannot change places, and why
    """

    aligned: Aligned
    channels: Channels
    sizes: Mapping[str, int]
    layout: Mapping[int, Sequence[Lying]]
    stay: tuple[str, ...]

    @property
    def model(self) -> Model:
        return self.aligned.models[0]

    def tensors(self, k: int) -> dict[int, ir.TensorProtocol]:
        """Of the k-th model, by place; those of the first where it has no counterpart."""
        place = {value: at for at, (value, _) in enumerate(initialized(self.model.ir))}
        found = {at: tensor for at, (_, tensor) in enumerate(initialized(self.model.ir))}
        return found | {place[group.value]: group.tensors[k] for group in self.aligned.groups}

    def fitted(self, k: int, orders: Orders) -> Model:
        """The k-th model in this graph, its channels in these orders; it computes what it did."""
        fork = self.model.fork()
        tensors = self.tensors(k)
        for at, (value, _) in enumerate(list(initialized(fork.ir))):
            lying = [one for one in self.layout.get(at, ()) if one.group in orders]
            value.const_value = _moved_when_asked(tensors[at], lying, orders) if lying else tensors[at]
        return Model(fork.ir, self.aligned.models[k].name)

    def fits(self, orders: Sequence[Orders]) -> Aligned:
        """The models in this graph, the first as it is, those behind it with their channels in these orders."""
        models = (self.model, *(self.fitted(k, one) for k, one in enumerate(orders, 1)))
        place = {value: at for at, (value, _) in enumerate(initialized(self.model.ir))}
        values = [[value for value, _ in initialized(model.ir)] for model in models]
        groups = tuple(
            Group(group.value, group.role, tuple(of[place[group.value]] for of in values))
            for group in self.aligned.groups
        )
        return Aligned(models, groups, self.aligned.missing, self.aligned.guessed, self.aligned.cleaned)


def framed(aligned: Aligned, progress: Progress) -> Frame:
    """The models as one graph: tidied where they still match then, else as they are with shapes inferred."""
    tidy = _with_parted(_tidied(aligned, progress))
    channels = find_channels(tidy.models[0].ir)
    layout, mixed = _layout(tidy.models[0].ir, channels)
    sizes = {group.site.name: group.size for group in channels.groups if group.site.name not in mixed}
    stay = [f"'{one.value}' axis {one.axis}: {one.reason} ({one.operator})" for one in channels.refused]
    stay += [f"'{name}': its channels are multiplied with each other" for name in mixed]
    return Frame(tidy, channels, sizes, layout, tuple(stay))


def _tidied(aligned: Aligned, progress: Progress) -> Aligned:
    """Every model tidied and matched again; only shapes inferred where fewer tensors then have a counterpart."""
    context = PassContext(find_target("host"))
    forks = tuple(model.fork() for model in aligned.models)
    for fork in forks:
        Pipeline(TIDY, rounds=ROUNDS).run(fork.ir, context)
        move_to_file(fork.ir)
    found = matched(forks, progress, cleaned=True)
    if len(found.missing) <= len(aligned.missing):
        return found
    InferShapes().run(aligned.models[0].ir, context)
    return aligned


Key = tuple[tuple[str, int, bytes], ...]


def _with_parted(aligned: Aligned) -> Aligned:
    """Constants that several layers read, each in its own order of channels, become one of each.

    Vectors only: larger constants couple the channels of all that read them.
    """
    graph = aligned.models[0].graph
    lies = {(node, index): _key(lying) for node, index, lying in find_channels(aligned.models[0].ir).reads()}
    groups = list(aligned.groups)
    of_value = {group.value: group for group in groups}
    for value in list(graph.initializers.values()):
        uses: dict[Key, list[tuple[ir.Node, int]]] = {}
        for use in value.uses():
            uses.setdefault(lies.get((use.node, use.idx), ()), []).append((use.node, use.idx))
        for readers in [uses[key] for key in sorted(uses)][1:]:
            own = ir.Value(
                name=free_name(graph, f"{value.name}.{readers[0][0].name}"), type=value.type, shape=value.shape,
                const_value=value.const_value,
            )  # fmt: skip
            graph.register_initializer(own)
            for node, index in readers:
                node.replace_input_with(index, own)
            if value in of_value:
                group = of_value[value]
                groups.append(Group(own, group.role, (own, *group.values[1:])))
    return replace(aligned, groups=tuple(groups))


def _key(found: Sequence[Laid]) -> Key:
    return tuple(sorted((one.site.name, one.axis, one.positions.tobytes()) for one in found))


def _layout(model: ir.Model, channels: Channels) -> tuple[dict[int, list[Lying]], set[str]]:
    """By place of an initializer what lies on it; and groups whose channels are not apart on some axis."""
    place = {value: at for at, (value, _) in enumerate(initialized(model))}
    layout: dict[int, list[Lying]] = {}
    mixed: set[str] = set()
    for node, index, found in channels.reads():
        value = node.inputs[index]
        assert value is not None
        layout[place[value]] = [Lying(one.site.name, one.axis, one.positions) for one in found]
        mixed |= {one.site.name for one in found if len(np.unique(one.positions)) < one.positions.size}
    kept = {at: [one for one in lying if one.group not in mixed] for at, lying in layout.items()}
    return kept, mixed


def _moved_when_asked(tensor: ir.TensorProtocol, lying: Sequence[Lying], orders: Orders) -> ir.LazyTensor:
    def make() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(moved(tensor.numpy(), lying, orders)), tensor.dtype, name=tensor.name)

    return ir.LazyTensor(make, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name)
