"""Where plans of a prepared model are built and measured, and the numbers that all runtimes share."""

from __future__ import annotations

from dataclasses import replace

from lwc.compiler.core.model import Model
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings
from lwc.compiler.search.apply import Applier
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.trial import Trials


def numbers_of(prepared: Prepared, options: CompileOptions, timings: Timings) -> Numbers:
    """Nothing known yet; to be measured on the reference runtime."""
    return Numbers(
        workbench(prepared),
        prepared.search,
        int(options.max_memory_gb * 1e9),
        timings.progress.advance,
        options.workers,
        options.scheduler,
    )


def workbench(prepared: Prepared) -> Workbench:
    """Where candidate plans of the cleaned model are built and measured."""
    return Workbench(
        prepared.clean,
        prepared.backend,
        prepared.target,
        prepared.metric,
        prepared.search,
        prepared.originals["search"].__getitem__,
        prepared.feeds,
        prepared.apply,
        prepared.cache,
        prepared.key,
        Trials(prepared.backend, prepared.target) if prepared.backend.may_crash else None,
    )


def around(prepared: Prepared, clean: Model) -> Prepared:
    """The same workplace for another model, of which shapes are known: nothing measured before is looked up for it."""
    digests = {prepared.clean.digest(): clean.digest()}
    key = tuple(digests.get(part, part) for part in prepared.key)
    return replace(prepared, clean=clean, key=key, apply=Applier(prepared.target))
