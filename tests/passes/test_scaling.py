"""A graph of 10,000 nodes opens, is cleaned and saves; work grows with the number of nodes, not faster."""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path

import onnx
import onnx_ir as ir

from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import assert_equivalent
from lwc.models.structures import chain
from lwc.passes import clean

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])


def test_ten_thousand_nodes_are_opened_cleaned_and_saved(tmp_path: Path) -> None:
    onnx.save(chain(10_000), tmp_path / "chain.onnx")
    model = Model.open(tmp_path / "chain.onnx")
    clean(CONTEXT.target).run(model.ir, CONTEXT)
    model.save(tmp_path / "clean.onnx")
    assert len(onnx.load(tmp_path / "clean.onnx").graph.node) < 1_000
    assert_equivalent(ir.from_proto(chain(10_000)), Model.open(tmp_path / "clean.onnx").ir)


def test_twice_the_nodes_take_at_most_2_2_times_the_calls() -> None:
    counts = []
    for nodes in (1_000, 2_000):
        model = ir.from_proto(chain(nodes))
        profile = cProfile.Profile()
        profile.runcall(clean(CONTEXT.target).run, model, CONTEXT)
        counts.append(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]
    assert counts[1] <= 2.2 * counts[0]
