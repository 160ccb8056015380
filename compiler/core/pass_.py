"""What a pass is: a frozen set of options with one method that rewrites a graph as its plan says."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import onnx_ir as ir

from lwc.compiler.core.digest import digest
from lwc.compiler.core.errors import InternalError, LwcError
from lwc.compiler.core.plan import Plan, Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.target import Target

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Skip:
    """A site that a pass left as it was, and why. by: the pass's name, filled in by the pipeline."""

    site: Site
    reason: str
    by: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a pass did. `changed` is empty exactly when the graph's digest is unchanged."""

    changed: tuple[Site, ...] = ()
    skipped: tuple[Skip, ...] = ()


@dataclass(frozen=True)
class PassContext:
    """All that a pass may look at besides the graph.

    stats: of the sites whose choices need them (any rounding but to the nearest)
    solved: weights that were solved before, so that forks of one model that share tensors share the work
    """

    target: Target
    plan: Plan = field(default_factory=Plan)
    stats: Mapping[Site, LayerStats] = field(default_factory=dict)
    seed: int = 0
    solved: MutableMapping[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass(ABC):
    """A rewrite. Options are dataclass fields. It applies; it never chooses, measures, reads files or prints."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        """Rewrite `model` in place and say which sites changed."""


@dataclass(frozen=True)
class ForeignPass(Pass):
    """Base of passes that call a rewriter of another library.

    Their own `modified` flags are not trusted (onnx_ir 1.1.0 RemoveUnusedNodesPass changes a Clip's inputs and
    says it did not): digests before and after tell.
    """

    @abstractmethod
    def rewrite(self, model: ir.Model, ctx: PassContext) -> None:
        """Call the other library on `model`, in place."""

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        before = digest(model)
        self.rewrite(model, ctx)
        return Outcome((whole_graph(model),) if digest(model) != before else ())


def whole_graph(model: ir.Model) -> Site:
    """The site that stands for the whole main graph."""
    return Site(model.graph.name or "graph", "Graph", "graph")


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. `rounds` > 1 repeats the whole until nothing changes."""

    passes: tuple[Pass, ...]
    rounds: int = 1

    def run(self, model: ir.Model, ctx: PassContext, on_pass: Callable[[str, Outcome], None] | None = None) -> Outcome:
        """Run every pass; an exception names the pass and those that ran before it."""
        changed: dict[Site, None] = {}
        skipped: dict[Skip, None] = {}
        done: list[str] = []
        for _ in range(self.rounds):
            changed_in_round = False
            for step in self.passes:
                outcome = _run_one(step, model, ctx, done)
                done.append(step.name)
                changed_in_round |= bool(outcome.changed)
                changed.update(dict.fromkeys(outcome.changed))
                skipped.update((replace(skip, by=step.name), None) for skip in outcome.skipped)
                if on_pass:
                    on_pass(step.name, outcome)
            if not changed_in_round:
                break
        return Outcome(tuple(changed), tuple(skipped))


def _run_one(step: Pass, model: ir.Model, ctx: PassContext, done: Iterable[str]) -> Outcome:
    start = time.perf_counter()
    try:
        outcome = step.run(model, ctx)
    except LwcError:
        raise
    except Exception as error:
        before = ", ".join(done) or "none"
        raise InternalError(
            f"pass '{step.name}' failed with {type(error).__name__}: {error} (passes that ran before it: {before})."
        ) from error
    log.debug("%s: %d changed, %.0f ms", step.name, len(outcome.changed), 1e3 * (time.perf_counter() - start))
    return outcome
