"""Tuning as `lwc compile --tune` asks for it: the kernels of models, this machine, the user's database."""

from __future__ import annotations

from collections.abc import Sequence

from lwc.backends.tvm.compiled import machine_for
from lwc.backends.tvm.database import Database, place
from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.race import Local
from lwc.backends.tvm.remote import Remote, Tracker
from lwc.backends.tvm.tasks import Task, find_tasks, joined
from lwc.backends.tvm.tune import Gain, Tuner
from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Progress
from lwc.compiler.core.silence import STDERR, silent
from lwc.compiler.core.target import Target, host

MOST_BUILDERS = 8


def tune_models(
    models: Sequence[Model], target: Target, seconds: float, progress: Progress, tuner: str | None = None
) -> Gain:
    """Find faster kernels for models that TVM takes as a whole, and keep them in the target's folder.

    tuner: rpc://HOST:PORT/KEY of devices like the target; None: this machine is one
    Raises UsageError where kernels cannot be run or kept, MissingDependency.
    """
    if target.tuned is None:
        raise UsageError("What tuning finds is kept in the cache.", "Leave --no-cache out.")
    database, here = Database(target.tuned), place(target)
    racer = _racer(target, tuner)
    search = Tuner(
        racer, here, lambda signature: database.records().get((here, signature)),
        lambda record: database.add([record]), progress,
    )  # fmt: skip
    try:
        found: Gain = search.tune(kernels_of(models, target), seconds)
    finally:
        racer.close()
    progress.note(told(found))
    return found


def _racer(target: Target, tuner: str | None) -> Local | Remote:
    if tuner is not None:
        return Remote(Machine.of(target), Tracker.of(tuner))
    refuse_foreign_code(target)
    return Local(Machine.of(target), min(MOST_BUILDERS, target.threads))


def kernels_of(models: Sequence[Model], target: Target) -> list[Task]:
    """What there is to tune in all of them, each kernel once."""
    with silent(STDERR):
        return joined(task for model in models for task in find_tasks(import_model(model), machine_for(model, target)))


def refuse_foreign_code(target: Target) -> None:
    """Raise UsageError when this machine cannot run code for the target."""
    here = host()
    if target.is_foreign or not target.features <= here.features:
        raise UsageError(f"Kernels for '{target.name}' cannot be measured here.", "Give --tuner.")


def told(gain: Gain) -> str:
    """The result in one sentence."""
    ended = " until Ctrl-C" if gain.interrupted else ""
    return (
        f"Tuning tried {gain.tried} candidates{ended}: the kernels it knows take {gain.seconds_after * 1e3:.3g} ms, "
        f"{gain.seconds_before * 1e3:.3g} ms before ({gain.speedup:.2f}x)."
    )
