"""Statistics of every layer of a model, over samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from lwc.compiler.analysis.activations import collect
from lwc.compiler.analysis.sites import site_of
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.data import Calibration, Port

Feeds = Mapping[str, Any]


class _Session:
    """Runs a model and fetches values by name."""

    def __init__(self, model: Model, names: Sequence[str]) -> None:
        fork = model.fork()
        values = {value.name: value for node in fork.graph for value in node.outputs}
        inputs = {value.name for value in fork.graph.inputs}
        fork.graph.outputs.extend(values[name] for name in names if name not in inputs)
        self._names = list(dict.fromkeys(value.name for value in fork.graph.outputs))
        self._session = onnxruntime.InferenceSession(
            fork.to_proto().SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def run(self, feeds: Feeds) -> dict[str, Any]:
        return {**feeds, **dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))}


@pytest.fixture(scope="session")
def statistics() -> Callable[[ir.Model, Sequence[Feeds]], dict[Site, LayerStats]]:
    """statistics(model, samples) -> LayerStats by site, with Gram matrices and moments per channel"""

    def measure(graph: ir.Model, samples: Sequence[Feeds]) -> dict[Site, LayerStats]:
        model = Model(graph, "model")
        sites = [site_of(node) for node in graph.graph if node.op_type in ("Conv", "Gemm", "MatMul")]
        ports = [Port(name, np.asarray(array).dtype, (None,) * np.ndim(array)) for name, array in samples[0].items()]
        calibration = Calibration.open(list(samples), ports, limit=None, seed=0)
        return collect(model, sites, calibration, _Session, gram=True, channels=True)

    return measure
