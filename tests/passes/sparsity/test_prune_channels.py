"""Removing channels equals zeroing what sums over them, on every tiny graph and the trained models that ship."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.channels import Group, find_channels
from lwc.compiler.core.digest import digest
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Pruned, Site
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import DEEP_FP32, assert_valid, disagreement, run_onnxruntime, without_channels
from lwc.models import tiny
from lwc.passes import clean
from lwc.passes.sparsity.prune_channels import PruneChannels

TARGET = NAMED["cpu:x86-64-v4"]
GRAPHS = tiny.all_graphs()
TRAINED = ("digits_cnn", "digits_gru", "digits_transformer", "docstrings")
RANDOM = ("RandomNormal", "RandomUniform", "Bernoulli", "Multinomial", "RandomNormalLike", "Dropout")


def cleaned(model: ir.Model) -> ir.Model:
    clean(TARGET).run(model, PassContext(TARGET))
    return model


@functools.cache
def cleaned_graph(name: str) -> ir.Model:
    return cleaned(GRAPHS[name]() if name in GRAPHS else ir.load(Path(str(files("lwc.models") / f"{name}.onnx"))))


def some_channels(group: Group, rng: np.random.Generator) -> tuple[int, ...]:
    count = int(rng.integers(1, group.size))
    return tuple(sorted(int(k) for k in rng.choice(group.size, count, replace=False)))


def pruned(model: ir.Model, removed: Mapping[Site, Sequence[int]]) -> ir.Model:
    copy = model.clone()
    plan = Plan({site: Pruned(tuple(gone)) for site, gone in removed.items()})
    context = PassContext(TARGET, plan)
    outcome = PruneChannels().run(copy, context)
    assert set(outcome.changed) == set(removed)
    assert not outcome.skipped
    after = digest(copy)
    assert after != digest(model)
    assert not PruneChannels().run(copy, context).changed
    assert digest(copy) == after
    return copy


def outputs(model: ir.Model, name: str) -> list[Any]:
    return list(run_onnxruntime(ir.to_proto(model), tiny.feeds(model)))


def runnable(name: str) -> bool:
    return name not in tiny.NOT_RUNNABLE and all(node.op_type not in RANDOM for node in cleaned_graph(name).graph)


@pytest.mark.parametrize("name", [*GRAPHS, *TRAINED])
def test_removing_equals_zeroing_what_sums_over_them(name: str) -> None:
    model = cleaned_graph(name)
    before = digest(model)
    channels = find_channels(model)
    assert digest(model) == before
    rng = np.random.default_rng(len(name))
    for group in channels.groups:
        removed = {group.site: some_channels(group, rng)}
        smaller = pruned(model, removed)
        assert_valid(smaller)
        if runnable(name):
            found = outputs(smaller, name)
            if group.exact:
                wanted = outputs(without_channels(model, channels, removed), name)
                assert not (why := disagreement(wanted, found, DEEP_FP32)), f"{group.site}: {why}"


@pytest.mark.parametrize("name", [*GRAPHS, *TRAINED])
def test_all_groups_together_are_removed_at_once(name: str) -> None:
    model = cleaned_graph(name)
    channels = find_channels(model)
    rng = np.random.default_rng(0)
    removed = {group.site: some_channels(group, rng) for group in channels.groups}
    if not removed:
        return
    smaller = pruned(model, removed)
    assert_valid(smaller)
    if runnable(name):
        found = outputs(smaller, name)
        exact = all(group.exact for group in channels.groups)
        wanted = outputs(without_channels(model, channels, removed) if exact else model, name)
        assert [a.shape for a in wanted] == [b.shape for b in found]
        assert not exact or not disagreement(wanted, found, DEEP_FP32)
