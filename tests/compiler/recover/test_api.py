"""A model whose weights were spoilt is taught back; nothing but numbers changes."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.core.cache import Cache
from lwc.compiler.core.errors import MissingDependency, UnsupportedOperator
from lwc.compiler.core.inference import infer_shapes
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Pruned
from lwc.compiler.core.progress import Silent
from lwc.compiler.core.target import find_target
from lwc.compiler.recover.api import Recovery, recover, refuse_recovery, with_weights
from lwc.compiler.recover.settings import Settings
from lwc.models.tiny.text import graph
from lwc.passes.canonicalize.name_nodes import NameNodes
from lwc.passes.sparsity.prune_channels import PruneChannels

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")

NETWORK = graph("""(float[N,8] x) => (float[N,5] logits)
    <float[8,24] w1, float[24] b1, float[24,16] w2, float[16] b2, float[16,5] w3, float[5] b3>
    { h1 = MatMul(x, w1) a1 = Add(h1, b1) r1 = Relu(a1) h2 = MatMul(r1, w2) a2 = Add(h2, b2) r2 = Relu(a2)
      h3 = MatMul(r2, w3) logits = Add(h3, b3) }""")
SAMPLES = [{"x": row[None]} for row in np.random.default_rng(0).standard_normal((80, 8)).astype(np.float32)]
FEW_SECONDS = 2.0 / 60
SETTINGS = Settings(threads=1)


def network() -> Model:
    model = Model(NETWORK(), "network")
    NameNodes().run(model.ir, PassContext(find_target("host")))
    infer_shapes(model.ir)
    return model


def spoilt() -> Model:
    """The network with noise on its weights; one of them has zeros, and a node a note."""
    model, rng = network(), np.random.default_rng(1)
    noisy = {
        name: value.const_value.numpy() + 0.5 * rng.standard_normal(value.const_value.shape.numpy())
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    noisy["w2"][::3] = 0.0
    found = with_weights(model, {name: array.astype(np.float32) for name, array in noisy.items()})
    found.graph[0].metadata_props["lwc.site"] = "here"
    return found


def taught(student: Model, **more: object) -> Recovery:
    return recover(student, network(), SAMPLES, FEW_SECONDS, scores=["logits"], settings=SETTINGS, **more)  # type: ignore[arg-type]


@needs_torch
def test_the_answers_come_nearer_to_the_teacher() -> None:
    found = taught(spoilt())
    assert found.before < 0.8
    assert found.after > found.before + 0.1
    assert f"{found.after:.4f}" in found.note


@needs_torch
def test_only_numbers_change_and_the_student_stays() -> None:
    student = spoilt()
    digest = student.digest()
    found = taught(student).model
    assert student.digest() == digest != found.digest()
    assert found.graph[0].metadata_props["lwc.site"] == "here"
    names = [(n.name, n.op_type, [v.name for v in n.inputs if v]) for n in student.graph]
    assert [(n.name, n.op_type, [v.name for v in n.inputs if v]) for n in found.graph] == names
    for name, value in student.graph.initializers.items():
        before, after = value.const_value, found.graph.initializers[name].const_value
        assert before is not None
        assert after is not None
        assert (after.name, after.dtype, after.shape) == (before.name, before.dtype, before.shape)
    zeros = found.graph.initializers["w2"].const_value
    assert zeros is not None
    assert not zeros.numpy()[::3].any()


@needs_torch
def test_pruned_channels_are_matched_with_those_that_the_teacher_kept() -> None:
    teacher = network()
    channels = find_channels(teacher.ir)
    removed = {group.site: tuple(range(0, group.size, 2)) for group in channels.groups}
    plan = Plan({site: Pruned(numbers) for site, numbers in removed.items()})
    student = teacher.fork()
    PruneChannels().run(student.ir, PassContext(find_target("host"), plan))
    stages = Stages()
    found = taught(student, keep=channels.keep(removed), progress=stages)
    assert found.model.parameters() < teacher.parameters()
    assert found.after >= found.before
    assert any("block 1 of 3" in name for name in stages.names)


@needs_torch
def test_a_second_run_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    student, cache = spoilt(), Cache(tmp_path)
    first = taught(student, cache=cache)
    again = taught(student, cache=cache)
    assert again.model.digest() == first.model.digest()
    assert (again.before, again.after) == (first.before, first.after)


@needs_torch
def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path) -> None:
    stages = Stages(interrupted_at="end to end, round 2")
    student, cache = spoilt(), Cache(tmp_path)
    found = taught(student, cache=cache, progress=stages)
    assert found.after > found.before
    assert any("interrupted" in note for note in stages.notes)
    later = recover(
        student, network(), SAMPLES, 1.5 * FEW_SECONDS, scores=["logits"], settings=SETTINGS, cache=cache
    )  # fmt: skip
    assert later.before == found.before


@needs_torch
def test_answers_that_nothing_can_be_learned_from_leave_the_model_as_it_is() -> None:
    text = """(float[N,8] x) => (int64[N] y, float[N,8] z) <float[8,5] w>
        { h = MatMul(x, w) y = ArgMax <axis = 1, keepdims = 0> (h) z = Neg(x) }"""
    model = Model(graph(text)(), "classes")
    found = recover(model, model, SAMPLES[:10], FEW_SECONDS / 4, settings=SETTINGS)
    assert found.model.digest() == model.digest()
    assert (found.before, found.after) == (1.0, 1.0)


@needs_torch
def test_sixteen_bit_weights_keep_their_type() -> None:
    text = "(float[N,8] x) => (float[N,4] y) <float16[8,4] w> { c = Cast <to = 1> (w) y = MatMul(x, c) }"
    model = Model(graph(text)(), "half")
    found = recover(model, model, SAMPLES[:10], FEW_SECONDS / 4, settings=SETTINGS).model
    weight = found.graph.initializers["w"].const_value
    assert weight is not None
    assert weight.dtype == ir.DataType.FLOAT16


def test_without_pytorch_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(MissingDependency, match=r"lwc-compiler\[recover\]"):
        refuse_recovery(network())


@needs_torch
def test_a_model_that_cannot_be_differentiated_is_refused_by_node() -> None:
    model = Model(graph("(float[2] x) => (float[2] y) { y = Bernoulli(x) }")(), "coin")
    model.graph[0].name = "toss"
    with pytest.raises(UnsupportedOperator, match=r"'toss'.*Bernoulli"):
        recover(model, model, [{"x": np.zeros(2, np.float32)}], 1.0)


def test_importing_it_imports_no_torch() -> None:
    assert "torch" not in vars(importlib.import_module("lwc.compiler.recover.api"))


class Stages(Silent):
    """Remembers what it was told; interrupts once, when asked."""

    def __init__(self, interrupted_at: str = "") -> None:
        self.names: list[str] = []
        self.notes: list[str] = []
        self._interrupted_at = interrupted_at

    def stage(self, name: str, total: int | None = None) -> None:
        self.names.append(name)
        if self._interrupted_at and self._interrupted_at in name:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)
