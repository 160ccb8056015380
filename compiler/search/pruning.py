"""Options of channel groups: how wide each may stay, which channels leave, what that saves and loses.

They stand beside number formats in one space. What a width saves is measured on top of a plan of formats, and so in
the formats that its layers will have; what it loses, in float, with the one group pruned alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite

import onnx_ir as ir

from lwc.compiler.analysis.channels import Channels, Group, find_channels
from lwc.compiler.analysis.group_sizes import weight_share
from lwc.compiler.analysis.sites import macs
from lwc.compiler.core.plan import Choice, Float, Plan, Pruned, Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.core.threads import one_blas_thread
from lwc.compiler.search.cost import weight_bytes
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.evolve import SESSION
from lwc.compiler.search.group_costs import Savings, measured_savings
from lwc.compiler.search.group_readers import elimination_of, reader_sites
from lwc.compiler.search.ledger import Objective
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.rounding import gram_sources
from lwc.compiler.search.space import Option, plan_of
from lwc.compiler.search.widths import SHARES, width_at, widths_of
from lwc.passes.solvers.elimination import Elimination

log = logging.getLogger(__name__)

COMPENSATION = "least-squares"
SAMPLES = 16  # that losses are measured on, and no statistics are of: weights solved on few samples suit these alone
SHARE_APART = 4  # of the samples at most so many times less
MULTIPLY_ADDS = 2e12  # of all the runs together: some 50 s on two cores
LEAST_SAVING = 2e-3  # of the whole model's time: a width must save so much more than the next wider one
RUINED = 1.0  # loss beyond which narrower widths need no measurement


@dataclass
class Pruner:
    """Prices groups of one runtime's model. each: called after every measurement"""

    bench: Workbench
    numbers: Numbers
    objective: Objective = "latency"
    each: Callable[[], None] = lambda: None

    @cached_property
    def channels(self) -> Channels:
        return find_channels(self.bench.model.ir)

    @cached_property
    def groups(self) -> dict[Site, Group]:
        return {group.site: group for group in self.channels.groups}

    @cached_property
    def eliminations(self) -> dict[Site, Elimination]:
        """By group, in which order its channels leave. Collects the statistics that this and applying plans take."""
        nodes = self.bench.model.by_name()
        stats = collect_apart(self.numbers, reader_sites(self.groups.values(), nodes), nodes)
        with one_blas_thread():
            return {site: elimination_of(group, nodes, stats) for site, group in self.groups.items()}

    def pruned(self, site: Site, width: int) -> Pruned:
        """The group at this width, without the channels that leave first."""
        gone = self.groups[site].size - width
        return Pruned(tuple(sorted(map(int, self.eliminations[site].channels[:gone]))), COMPENSATION)

    def at_share(self, share: float) -> dict[Site, Pruned]:
        """Every group at the width next to this share of its channels; those that stay whole left out."""
        alignment = self.bench.target.channel_alignment
        widths = {site: width_at(group, share, alignment) for site, group in self.groups.items()}
        return {site: self.pruned(site, width) for site, width in widths.items() if width < self.groups[site].size}

    def offered(self) -> dict[Site, tuple[Pruned, ...]]:
        """Widths of every group, widest first."""
        alignment = self.bench.target.channel_alignment
        widths = {site: widths_of(group, alignment) for site, group in self.groups.items()}
        return {site: tuple(self.pruned(site, width) for width in found) for site, found in widths.items() if found}

    def options(self, base: Plan) -> dict[Site, tuple[Option, ...]]:
        """What is left of `offered` where it pays, priced; the first option of each leaves the group whole."""
        offered = self.offered()
        savings = self._savings(base, offered)
        least = LEAST_SAVING * self.bench.milliseconds(base)
        paying = {site: self._paying(site, choices, savings, least) for site, choices in offered.items()}
        paying = {site: choices for site, choices in paying.items() if choices}
        losses = self.losses(paying)
        return {
            site: (
                Option(Float(), 0.0, 0, 0.0),
                *(Option(c, -savings[site, c], -self._bytes(base, site, c), losses[site, c]) for c in choices),
            )
            for site, choices in paying.items()
        }

    def even_plans(self, base: Plan, options: Mapping[Site, Sequence[Option]]) -> list[Plan]:
        """The base plan with about the same share of the channels gone from every group, one plan for each share."""
        plans = []
        for share in SHARES:
            most = {site: len(choice.removed) for site, choice in self.at_share(share).items()}
            within = {
                site: [o.choice for o in found if isinstance(o.choice, Pruned) and len(o.choice.removed) <= most[site]]
                for site, found in options.items()
                if site in most
            }
            widths = {site: choices[-1] for site, choices in within.items() if choices}
            plans.append(plan_of({**base.choices, **widths}, base.ranges))
        return plans

    def _savings(self, base: Plan, offered: Mapping[Site, Sequence[Pruned]]) -> Savings:
        """Milliseconds off the base plan; for size nothing is timed."""
        if self.objective == "size":
            return {(site, choice): 0.0 for site, choices in offered.items() for choice in choices}
        rungs = [self.at_share(share) for share in SHARES]
        return measured_savings(self.bench, base, rungs, self._touched(), self.each)

    def _paying(
        self, site: Site, choices: Sequence[Pruned], savings: Savings, least: float
    ) -> tuple[Pruned, ...]:
        """Those that save more time than every wider one; for size all."""
        if self.objective == "size":
            return tuple(choices)
        kept: list[Pruned] = []
        best = 0.0
        for choice in choices:
            saved = savings.get((site, choice), -inf)
            if saved >= best + least:
                kept.append(choice)
                best = saved
        return tuple(kept)

    def losses(self, offered: Mapping[Site, Sequence[Pruned]]) -> dict[tuple[Site, Choice], float]:
        """Relative squared error of the outputs with each choice alone.

        As many are measured as the multiply-adds allow, in each group the same share of its widths; the others follow
        from the nearest measured one by what the readers lose.
        """
        found: dict[tuple[Site, Choice], float] = {}
        for site, choices in offered.items():
            measured: dict[int, float] = {}
            for k in _spread(len(choices), self._affordable(len(offered))):
                ruined = any(loss > RUINED for loss in measured.values())
                if not ruined:
                    measured[k] = self._noise(Plan({site: choices[k]}))
                    self.each()
            estimates = [self._lost(site, choice) for choice in choices]
            for k, choice in enumerate(choices):
                near = min(measured, key=lambda i: abs(i - k))
                found[site, choice] = _scaled(measured[near], estimates[near], estimates[k])
        return found

    def _affordable(self, groups: int) -> int:
        """Widths of each group that are measured."""
        count = compared_on(len(self.bench.samples))
        work = sum(macs(node) for node in self.bench.model.graph) * count + SESSION
        return max(1, int(MULTIPLY_ADDS / work) // max(1, groups))

    def _noise(self, plan: Plan) -> float:
        noise = self.bench.noise(plan, compared_on(len(self.bench.samples)))
        return noise if isfinite(noise) else inf

    def _lost(self, site: Site, choice: Pruned) -> float:
        """What the readers lose by the elimination's account."""
        return float(self.eliminations[site].losses[len(choice.removed) - 1])

    def _bytes(self, base: Plan, site: Site, choice: Pruned) -> int:
        """Of the weights that leave, in the formats of the base plan."""
        nodes, target = self.bench.model.by_name(), self.bench.target
        formats = {other.name: chosen for other, chosen in base.choices.items()}
        whole = sum(
            share * weight_bytes(nodes[name], formats.get(name, Float()), target)
            for name, share in weight_share(self.groups[site], nodes).items()
        )
        return round(whole * len(choice.removed) / self.groups[site].size)

    def _touched(self) -> dict[Site, frozenset[str]]:
        """Names of the nodes that read or make a value with channels of the group."""
        readers: dict[str, set[str]] = {}
        for node in self.bench.model.graph:
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.name and node.name:
                    readers.setdefault(value.name, set()).add(node.name)
        return {
            site: frozenset(
                name for value, _ in self.channels.keep({site: range(group.size)}) for name in readers.get(value, ())
            )
            for site, group in self.groups.items()
        }


def compared_on(samples: int) -> int:
    """How many of the samples, from the first on, sparse choices are compared on."""
    return max(1, min(SAMPLES, samples // SHARE_APART))


def collect_for_groups(numbers: Numbers, plan: Plan) -> None:
    """The statistics that it takes to prune the plan's groups again."""
    pruned = dict(plan.sites(Pruned))
    if pruned:
        model = numbers.bench.model
        groups = [group for group in find_channels(model.ir).groups if group.site in pruned]
        collect_apart(numbers, reader_sites(groups, model.by_name()), model.by_name())


def collect_apart(
    numbers: Numbers, sites: Iterable[Site], nodes: Mapping[str, ir.Node]
) -> Mapping[Site, LayerStats]:
    """Gram matrices and means of what these layers read, of samples that choices are not compared on."""
    samples = len(numbers.calibration)
    apart = numbers.apart(compared_on(samples) if samples > 1 else 0)
    return apart.collect_moments(gram_sources(sites, nodes))


def _scaled(loss: float, estimate: float, other: float) -> float:
    """A measured loss as its estimate says of another one; what was estimated at nothing says nothing."""
    if other == estimate:
        return loss
    return loss * other / estimate if estimate > 0.0 else max(loss, other)


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` of `count` numbers, evenly, rising."""
    if most >= count:
        return list(range(count))
    return sorted({round((k + 0.5) * count / most - 0.5) for k in range(most)})

