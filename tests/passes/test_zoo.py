"""Real models compute the same after canonicalization and fusion."""

from __future__ import annotations

import itertools

import pytest

from lwc.compiler.core.digest import digest
from lwc.compiler.core.errors import MissingDependency
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import DEEP_FP32, assert_equivalent
from lwc.models import zoo
from lwc.passes import clean

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_a_real_model_computes_the_same_after_clean(name: str) -> None:
    model = Model.open(zoo.path(name))
    original = model.fork()
    clean(CONTEXT.target).run(model.ir, CONTEXT)
    assert len(model.graph) <= len(original.graph)
    try:
        samples = list(itertools.islice(zoo.samples(name, 2), 2))
    except MissingDependency as error:
        pytest.skip(str(error))
    for sample in samples:
        assert_equivalent(original.ir, model.ir, sample, DEEP_FP32)


@pytest.mark.zoo
@pytest.mark.parametrize("name", zoo.names())
def test_cleaning_a_real_model_again_changes_nothing(name: str) -> None:
    model = Model.open(zoo.path(name))
    clean(CONTEXT.target).run(model.ir, CONTEXT)
    once = digest(model.ir)
    names = [node.name for graph in model.ir.graphs() for node in graph]
    assert len(set(names)) == len(names)
    clean(CONTEXT.target).run(model.ir, CONTEXT)
    assert digest(model.ir) == once
