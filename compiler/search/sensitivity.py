"""Measured loss of each choice at each site: the choice alone, the rest in float, run on a few samples.

Of a large model whose weights are to be rounded in one way or not at all, losses are taken from its layers instead.
Whether all of it may be rounded is seen by running that; losses only say which sites to take back first, and are
not worth a session of most of the model for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lwc.compiler.core.backend import OPEN_BYTES
from lwc.compiler.core.mapped import release_pages
from lwc.compiler.core.plan import Choice, Float, Plan, Range, Site, WeightOnly
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.job import Change, Evaluator, job_of
from lwc.compiler.search.partial import PartialRuns
from lwc.compiler.search.rounding import relative_loss

MOST_SAMPLES = 8
MULTIPLY_ADDS = 4e11  # of all the runs together: some 10 s on two cores


def layers_suffice(bench: Workbench, options: Mapping[Site, Sequence[Choice]]) -> bool:
    """Whether the losses of layers do: the model is large, and no site has two ways of rounding its weights."""
    changes = [[choice for choice in choices if not isinstance(choice, Float)] for choices in options.values()]
    single = all(len(found) <= 1 and all(isinstance(choice, WeightOnly) for choice in found) for found in changes)
    return single and bench.model.weight_bytes() > OPEN_BYTES


def layer_losses(
    bench: Workbench, options: Mapping[Site, Sequence[Choice]], each: Callable[[], None] = lambda: None
) -> dict[tuple[Site, Choice], float]:
    """Relative squared error of each site's own output, by its Gram matrix, for weight-only choices; 0 for float.

    Where no Gram matrix is known it is that of the weights;  each: called after every choice that is not float
    """
    nodes = bench.model.by_name()
    apply = bench.apply
    losses: dict[tuple[Site, Choice], float] = {}
    for site, choices in options.items():
        for choice in choices:
            losses[site, choice] = 0.0
            if isinstance(choice, WeightOnly):
                losses[site, choice] = relative_loss(
                    site, nodes[site.name], choice, apply.stats.get(site), apply.solved, portable=apply.target.portable
                )
                release_pages()  # of the weight, and of what it was rounded to
                each()
    return losses


def measured_losses(
    bench: Workbench,
    options: Mapping[Site, Sequence[Choice]],
    ranges: Mapping[str, Range],
    samples: int,
    each: Callable[[], None],
    *,
    evaluator: Evaluator | None = None,
    max_memory_bytes: int = 1_000_000_000,
) -> dict[tuple[Site, Choice], float]:
    """Relative squared error of the model's outputs for every (site, choice); 0 for float.

    samples: how many search samples each is run on;  each: called after every measurement
    evaluator: where to measure (None: partial re-runs in this process, whose activations take max_memory_bytes)
    """
    pairs = {(site, choice): 0.0 for site, choices in options.items() for choice in choices}
    changes: list[Change] = [((site, choice),) for site, choice in pairs if not isinstance(choice, Float)]
    found = losses_of(
        bench, options, ranges, samples, changes, each, evaluator=evaluator, max_memory_bytes=max_memory_bytes
    )
    return pairs | {change[0]: loss for change, loss in found.items()}


def losses_of(
    bench: Workbench,
    sites: Sequence[Site] | Mapping[Site, object],
    ranges: Mapping[str, Range],
    samples: int,
    changes: Sequence[Change],
    each: Callable[[], None] = lambda: None,
    *,
    evaluator: Evaluator | None = None,
    max_memory_bytes: int = 1_000_000_000,
) -> dict[Change, float]:
    """Loss of every change. Each is kept in the bench's cache as soon as it is known: a killed compile resumes.

    sites: all of the model's, whatever is asked
    """
    keys = {change: (*bench.key, Plan(dict(change), ranges).digest(), samples) for change in changes}
    known = {change: bench.cache.get("losses", key) for change, key in keys.items()}
    losses = {change: float(loss) for change, loss in known.items() if loss is not None}
    for _ in losses:
        each()
    missing = [change for change in changes if change not in losses]
    if missing and evaluator is None:
        evaluator = PartialRuns(job_of(bench, sites, ranges, samples, max_memory_bytes))
    if missing and evaluator is not None:
        for change, loss in evaluator.losses(missing):
            bench.cache.put("losses", keys[change], loss)
            losses[change] = loss
            each()
    return {change: losses[change] for change in changes}


def samples_for(macs: int, measurements: int, available: int) -> int:
    """How many samples each measurement may take, from the model's multiply-adds: the same on every machine."""
    affordable = int(MULTIPLY_ADDS / max(1.0, float(macs) * max(1, measurements)))
    return max(1, min(MOST_SAMPLES, available, max(2, affordable)))
