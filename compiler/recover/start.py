"""A course is set up, run and read: all that `lwc.compiler.recover.api` needs PyTorch for."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lwc import backends
from lwc.compiler.core.cache import Cache
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Progress
from lwc.compiler.core.target import find_target
from lwc.compiler.metrics import find_metric
from lwc.compiler.recover import state
from lwc.compiler.recover.block_stage import BlockStage, Keep
from lwc.compiler.recover.blocks import find_cuts
from lwc.compiler.recover.course import Course, threads
from lwc.compiler.recover.examiner import Examiner
from lwc.compiler.recover.feeds import Feeds
from lwc.compiler.recover.lessons import Lessons
from lwc.compiler.recover.program import Program
from lwc.compiler.recover.roles import find_roles
from lwc.compiler.recover.settings import Settings

Array = NDArray[Any]


def taught(
    student: Model,
    teacher: Model,
    feeds: Feeds,
    seconds: float,
    scores: Collection[str],
    keep: Keep,
    seed: int,
    progress: Progress,
    cache: Cache,
    key: object,
    settings: Settings,
) -> tuple[dict[str, Array], float, float]:
    """The best weights by name, and the fidelity before and after. Arguments are those of `recover`."""
    generator = torch.Generator().manual_seed(seed)
    program, roles = Program(student), find_roles(student, settings.everything)
    reference = backends.get(backends.REFERENCE)
    lessons = Lessons(teacher, reference, find_target("host"), feeds, settings.batch, settings.most_bytes)
    numbers, held = lessons.split(generator)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # what PyTorch loads at its first use is no learning
    known = state.load(cache, key)
    with threads(settings.threads):
        now = {name: program.weights[name] for name in roles}
        examiner = Examiner(program, now, lessons.batches(held), scores, find_metric("fidelity", tuple(scores)))
        before = examiner.fidelity()
        if known.weights:
            examiner.offer({name: torch.from_numpy(array) for name, array in known.weights.items()})
        if not known.finished and known.seconds < seconds and roles and examiner.distance.names:
            blocks = BlockStage(program, roles, lessons, examiner, keep, generator, settings)
            course = Course(blocks, numbers, progress, known, partial(state.save, cache, key, known))
            course.run(find_cuts(student, _values(teacher), roles), seconds)
        after = examiner.fidelity()
    return {name: np.asarray(tensor.numpy()) for name, tensor in examiner.best.items()}, before, after


def _values(model: Model) -> set[str]:
    return {value.name or "" for node in model.graph for value in node.outputs}
