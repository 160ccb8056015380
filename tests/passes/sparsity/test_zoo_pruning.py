"""Channels of real models: 30 % of every group leave at once, and removing single groups is zeroing them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.core.errors import MissingDependency
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Pruned, Site
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import DEEP_FP32, assert_valid, disagreement, run_onnxruntime, without_channels
from lwc.models import zoo
from lwc.passes import clean
from lwc.passes.sparsity.prune_channels import PruneChannels

TARGET = NAMED["cpu:x86-64-v4"]
SINGLES = 6


def pruned(model: ir.Model, removed: Mapping[Site, Sequence[int]]) -> ir.Model:
    fork = model.clone()
    plan = Plan({site: Pruned(tuple(gone)) for site, gone in removed.items()})
    outcome = PruneChannels().run(fork, PassContext(TARGET, plan))
    assert set(outcome.changed) == set(removed)
    assert_valid(fork)
    return fork


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_channels_of_a_real_model_leave(name: str) -> None:
    model = Model.open(zoo.path(name)).ir
    clean(TARGET).run(model, PassContext(TARGET))
    try:
        sample = next(itertools.islice(zoo.samples(name, 1), 1))
    except MissingDependency as error:
        pytest.skip(str(error))
    feeds = {value.name: sample[value.name] for value in model.graph.inputs if value.name in sample}
    channels, rng = find_channels(model), np.random.default_rng(0)
    removed = {g.site: sorted(rng.permutation(g.size)[: max(1, int(0.3 * g.size))].tolist()) for g in channels.groups}
    if removed:
        run_onnxruntime(ir.to_proto(pruned(model, removed)), feeds)
    for group in (channels.groups[k] for k in rng.permutation(len(channels.groups))[:SINGLES]):
        single = {group.site: removed[group.site]}
        found = run_onnxruntime(ir.to_proto(pruned(model, single)), feeds)
        if group.exact:
            wanted = run_onnxruntime(ir.to_proto(without_channels(model, channels, single)), feeds)
            assert not (why := disagreement(list(wanted), list(found), DEEP_FP32)), f"{group.site}: {why}"
