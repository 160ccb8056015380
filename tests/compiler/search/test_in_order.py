"""Layers of a pruned model solved in order: less error, other weights untouched, nothing done where nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lwc import backends
from lwc.compiler.analysis.channels import find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.backend import Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Pruned
from lwc.compiler.core.target import host
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.in_order import refit_in_order
from lwc.models import digits
from lwc.passes import clean

TARGET = replace(host(), threads=1)
SAMPLES = 24


def cleaned(kind: Any) -> Model:
    model = Model.open(digits.path(kind))
    clean(TARGET).run(model.ir, PassContext(TARGET))
    infer_shapes(model.ir)
    return model


def open_(model: Model, outputs: Sequence[str]) -> Session:
    return backends.get("onnxruntime").session(model, TARGET, outputs, lean=True)


def without(model: Model, share: float) -> tuple[Model, Any]:
    """The model without the first channels of every group, and which positions stay."""
    channels = find_channels(model.ir)
    gone = {g.site: tuple(range(int(g.size * share))) for g in channels.groups if int(g.size * share)}
    plan = Plan({site: Pruned(removed) for site, removed in gone.items()})
    return Applier(TARGET)(model, plan), channels.keep(gone)


def error(model: Model, teacher: Model) -> float:
    sessions = [backends.get("onnxruntime").session(each, TARGET) for each in (model, teacher)]
    found = [[next(iter(s.run(x).values())) for x in digits.unseen()[:40]] for s in sessions]
    return float(np.square(np.subtract(*found)).sum() / np.square(found[1]).sum())


@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_layers_take_over_what_left(kind: Any) -> None:
    teacher = cleaned(kind)
    student, keep = without(teacher, 0.25)
    solved = refit_in_order(student, teacher, keep, digits.calibration()[:SAMPLES], open_)
    assert error(solved, teacher) < 0.5 * error(student, teacher)


def test_the_student_stays_as_it_is() -> None:
    teacher = cleaned("cnn")
    student, keep = without(teacher, 0.25)
    before = student.digest()
    refit_in_order(student, teacher, keep, digits.calibration()[:8], open_)
    assert student.digest() == before


def test_nothing_is_solved_where_nothing_changed() -> None:
    teacher = cleaned("cnn")
    calls: list[int] = []
    same = refit_in_order(teacher.fork(), teacher, {}, digits.calibration()[:8], open_, lambda: calls.append(1))
    assert not calls
    assert same.digest() == teacher.digest()
