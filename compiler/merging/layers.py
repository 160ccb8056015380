"""Which layers read a parameter, in each of the models: there are the Gram matrices that speak of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.rows import rows_of
from lwc.compiler.analysis.weights import WeightView, weight_views
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Progress
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.data import Calibration
from lwc.compiler.merging.align import Aligned, Group
from lwc.compiler.merging.evidence import statistics

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layer:
    """A parameter that is the weight of layers.

    view: how it is a matrix;  parts: groups of a convolution, whose rows lie one behind the other
    readers: by model, the layers that multiply it with an activation
    """

    group: Group
    view: WeightView
    parts: int
    readers: tuple[tuple[ir.Node, ...], ...]

    def matrices(self, tensor: NDArray[Any]) -> list[NDArray[Any]]:
        """[out, in] of every part."""
        return np.split(self.view.matrix(tensor), self.parts)

    def tensor(self, matrices: Sequence[Floats]) -> NDArray[Any]:
        """The matrices as the parameter they are of."""
        return self.view.back(np.concatenate(matrices)).reshape(self.group.shape)

    def grams(self, model: int, stats: Mapping[str, LayerStats]) -> list[Floats] | None:
        """E[x x^T] [in, in] of every part, the mean over the readers; None where there are none for one of them."""
        found = [stats[node.name or ""].gram for node in self.readers[model]]
        known = [gram for gram in found if gram is not None and gram.shape[-1] == self.view.columns]
        if not known or len(known) < len(found):
            return None
        mean: Floats = np.mean(known, axis=0)
        return list(mean.reshape(self.parts, self.view.columns, self.view.columns))


def look_at(
    layers: Iterable[Layer], models: Sequence[Model], samples: Sequence[Calibration], progress: Progress, seed: int
) -> list[dict[str, LayerStats]]:
    """Statistics by node of what reads these parameters, of every model on its own samples."""
    chosen = list(layers)
    progress.stage("Looking at layers", len(models))
    found = []
    for k, (model, own) in enumerate(zip(models, samples, strict=True)):
        nodes = list(dict.fromkeys(node for layer in chosen for node in layer.readers[k]))
        found.append(statistics(model, own, nodes, seed=seed))
        progress.advance()
    return found


def grams_by_model(layer: Layer, stats: Sequence[Mapping[str, LayerStats]]) -> list[list[Floats]] | None:
    """Gram matrices of every model and part; None where those of some model are not known."""
    found = [layer.grams(k, of_model) for k, of_model in enumerate(stats)]
    return None if any(grams is None for grams in found) else [grams for grams in found if grams is not None]


def find_layers(aligned: Aligned) -> dict[str, Layer]:
    """The parameters that are weights of layers of the main graph in every model, and of nothing else, by name."""
    graphs = [model.graph for model in aligned.models]
    found = (_layer(group, graphs) for group in aligned.groups)
    return {layer.group.name: layer for layer in found if layer is not None}


def _layer(group: Group, graphs: Sequence[ir.Graph]) -> Layer | None:
    uses = [list(value.uses()) for value in (group.value, *group.values[1:])]
    views = [_seen_by(*use, graph) for each, graph in zip(uses, graphs, strict=True) for use in each]
    if not views or views[0] is None or any(view != views[0] for view in views):
        return None
    return Layer(group, *views[0], tuple(tuple(use.node for use in each) for each in uses))


def _seen_by(node: ir.Node, index: int, graph: ir.Graph) -> tuple[WeightView, int] | None:
    """How a node's constant is a matrix that it multiplies, and in how many parts; None for nodes of other graphs."""
    rows = rows_of(node)
    if rows is None or node.graph is not graph:
        return None
    views = [view for view in weight_views(node) if view.index == index and view.sees_activation]
    return (views[0], rows[1].groups) if views and views[0].rows % rows[1].groups == 0 else None
