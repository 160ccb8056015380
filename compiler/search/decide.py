"""Turn a workbench into a plan, stage by stage: sites, numbers, costs, losses, search."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import onnx_ir as ir

from lwc.compiler.analysis.crossings import Flow
from lwc.compiler.analysis.sites import choices_of, find_sites, macs
from lwc.compiler.core.plan import BFloat16, Choice, Float, Float16, Plan, Site, StaticInt8, Weight16, WeightOnly
from lwc.compiler.core.sparsity import Sparsity
from lwc.compiler.core.target import Target
from lwc.compiler.search.biases import choose_biases
from lwc.compiler.search.cost import crossing_rates, crossings, exchanged, graph_bytes, measured_costs, weight_bytes
from lwc.compiler.search.deepen import steps_for
from lwc.compiler.search.dropping import block_options
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.evolve import effort_for
from lwc.compiler.search.factoring import rank_options
from lwc.compiler.search.find import MOST_NOISE, Finder, Found
from lwc.compiler.search.ledger import Limits
from lwc.compiler.search.masking import masks_everywhere
from lwc.compiler.search.numbers import RANGE_SAMPLES, Numbers
from lwc.compiler.search.pairs import interactions, most_pairs, neighbours
from lwc.compiler.search.pruning import Pruner
from lwc.compiler.search.rounding import choose_roundings, confirmed, sites_to_solve
from lwc.compiler.search.shared_weights import sharing_sites
from lwc.compiler.search.solve import Objective, solve
from lwc.compiler.search.space import SPARSE, Crossing, Interaction, Option, Space
from lwc.passes.precision import required_values

# Names of the choices that each --precision offers beside float.
PRECISIONS: Mapping[str, frozenset[str]] = {
    "auto": frozenset({"fp16", "bf16", "fp8", "int8", "int8-dynamic", "w16", "w8", "w4"}),
    "fp32": frozenset(),
    **{name: frozenset({name}) for name in ("fp16", "bf16", "fp8", "int8", "int8-dynamic", "w8", "w4")},
}
MEASURED = "measured"
PRODUCTS = frozenset({"MatMul", "Gemm"})  # where integer weights alone make kernels faster


@dataclass(frozen=True)
class Wanted:
    """What the user wants: formats, what may leave, what to make best, the budget of the metric, the seed."""

    precision: str = "auto"
    sparsity: Sparsity = field(default_factory=Sparsity)
    objective: Objective = "latency"
    max_drop: float = 0.01
    seed: int = 0


@dataclass
class Decider:
    """The stages of a decision for one runtime, in order; each reads what the one before left.

    bench: of the runtime;  numbers: shared by all runtimes;  each: called after every measurement
    known: the plan of formats that groups of channels are priced on, and it with all groups evenly pruned
    """

    bench: Workbench
    numbers: Numbers
    wanted: Wanted
    each: Callable[[], None] = lambda: None
    offered: dict[Site, tuple[Choice, ...]] = field(default_factory=dict)
    space: Space = field(default_factory=lambda: Space({}))
    known: tuple[Plan, ...] = ()
    _costs: dict[tuple[Site, Choice], float] = field(default_factory=dict)

    def find_sites(self) -> None:
        """Sites of the cleaned model with the choices that target and user allow; float first."""
        allowed = PRECISIONS[self.wanted.precision] | {Float.name}
        nodes = self.bench.model.by_name()
        for site in find_sites(self.bench.model, self.bench.target):
            choices = choices_of(nodes[site.name], self.bench.target)
            kept = tuple(choice for choice in choices if choice.name in allowed and self._may_pay(site, choice))
            if len(kept) > 1:
                self.offered[site] = kept

    def calibrate(self) -> None:
        """Ranges of what static int8 quantizes, and its biases; one hint."""
        self._keep_one_hint()
        static = self.static_choices()
        if static and not self.numbers.ranges:
            self.numbers.choose_ranges(required_values(self.bench.model.ir, tuple(static)), static)
        if static:
            self._exchange(choose_biases(self.numbers, static))

    def measure_costs(self) -> None:
        """Milliseconds of every site and choice, from profiles of whole models; what cannot run is offered no more."""
        self._costs = measured_costs(self.bench, self.offered, self.numbers.ranges)
        kept = {
            site: tuple(choice for choice in choices if self._still_pays(site, choice))
            for site, choices in self.offered.items()
        }
        self.offered = {site: choices for site, choices in kept.items() if len(choices) > 1}

    def solve_weights(self) -> None:
        """The rounding of weights in four bits, layer by layer, confirmed on the whole model; costs stay the same."""
        nodes = self.bench.model.by_name()
        stats = self.numbers.collect_grams(sites_to_solve(self.offered, nodes))
        apply, before = self.bench.apply, self.offered
        chosen = choose_roundings(before, nodes, stats, apply.solved, portable=apply.target.portable)
        self.offered = confirmed(self.bench, chosen, before)
        for site, choices in self.offered.items():
            for choice, plain in zip(choices, before[site], strict=True):
                self._costs[site, choice] = self._costs[site, plain]

    def measurements(self) -> int:
        """How many (site, choice) pairs besides float there are."""
        return sum(len(choices) - 1 for choices in self.offered.values())

    def measure_losses(self, method: str = MEASURED) -> None:
        """Loss of every site and choice, measured or by a method of search.cheap; that completes the space."""
        target = self.bench.target
        arithmetic = {site: [c for c in choices if not is_hint(c, target)] for site, choices in self.offered.items()}
        if method == MEASURED:
            self.numbers.measure_losses(arithmetic)
        elif arithmetic:
            self.numbers.estimate_losses(arithmetic, method)
        losses = self.numbers.losses | self._losses_of_hints()
        nodes = self.bench.model.by_name()
        options = {
            site: tuple(
                Option(c, self._costs[site, c], self._bytes(nodes[site.name], c), losses[site, c]) for c in choices
            )
            for site, choices in self.offered.items()
        }
        if options:
            flows = exchanged(self.bench.model, list(options), target)
            self.space = Space(options, self._crossings(flows))
            self.space = replace(self.space, interactions=self._interactions(flows))

    def _bytes(self, node: ir.Node, choice: Choice) -> int:
        return weight_bytes(node, choice, self.bench.target) + graph_bytes(node, choice)

    def ask_for_sparsity(self) -> None:
        """What was asked for everywhere joins the space as the only option of its sites, so that every plan has it."""
        asked = self.wanted.sparsity
        if asked.kind == "channels":
            choices: Mapping[Site, Choice] = self._pruner().at_share(1.0 - asked.ratio)
        else:
            choices = masks_everywhere(self.numbers, asked.pattern)
        fixed = {site: (Option(choice, 0.0, 0, 0.0),) for site, choice in choices.items()}
        self.space = replace(self.space, options={**self.space.options, **fixed})

    def offer_groups(self, base: Plan) -> None:
        """Groups of channels, residual blocks and low ranks join the space, priced on top of a plan of formats."""
        pruner = self._pruner()
        groups = pruner.options(base)
        blocks = block_options(self.bench, base, self.each)
        ranks = rank_options(self.bench, self.numbers, base, self.wanted.objective, self.each)
        self.space = replace(self.space, options={**self.space.options, **groups, **blocks, **ranks})
        self.known = (base, *pruner.even_plans(base, groups))

    def _pruner(self) -> Pruner:
        return Pruner(self.bench, self.numbers, self.wanted.objective, self.each)

    def hasten(self, most_ms: float) -> Found:
        """The base plan with as much leaving as makes it fast enough, within the budget, and no more."""
        base = next(iter(self.known), Plan())
        base_ms = self.bench.milliseconds(base)
        plan = self._finder(None).hastened(base, lambda plan: self.bench.ratio(plan, base) * base_ms <= most_ms)
        return Found(plan)

    def bolder(self, plan: Plan) -> list[Plan]:
        """Plans in which step by step more leaves, whether they hold or not; short of where outputs are noise."""
        return self._finder(None).beyond(plan)

    def search(self, limits: Limits | None = None) -> Found:
        """The plan. limits: hard budgets of the sites together."""
        return self._finder(limits).find()

    def _finder(self, limits: Limits | None) -> Finder:
        samples = len(self.bench.samples)
        work = sum(macs(node) for node in self.bench.model.graph)
        effort = effort_for(work, samples, self.wanted.seed)
        return Finder(
            self.space, self.numbers.ranges, self.bench, self.wanted.max_drop, self._classes(), self.wanted.objective,
            self.each, limits or Limits(), effort, self._sharing(), self.known, steps_for(work, samples),
        )  # fmt: skip

    def _sharing(self) -> list[tuple[Site, ...]]:
        groups = sharing_sites(self.bench.model, self.offered)
        return [sites for sites in groups if len({self.offered.get(site) for site in sites}) == 1]

    def static_choices(self) -> dict[Site, Choice]:
        """Every site that can be static int8, with that choice."""
        return {site: c for site, choices in self.offered.items() for c in choices if isinstance(c, StaticInt8)}

    def _exchange(self, chosen: Mapping[Site, Choice]) -> None:
        """Offer these choices in the place of those of the same format."""
        for site, choice in chosen.items():
            self.offered[site] = tuple(choice if c.name == choice.name else c for c in self.offered[site])

    def _may_pay(self, site: Site, choice: Choice) -> bool:
        """Integer weights that are computed with in float make files smaller everywhere, and products faster."""
        asked = self.wanted.objective == "size" or self.wanted.precision == choice.name
        if isinstance(choice, Weight16):
            return asked
        return asked or not isinstance(choice, WeightOnly) or site.op in PRODUCTS

    def _keep_one_hint(self) -> None:
        """bfloat16, which goes with int8; float16 where bfloat16 breaks the budget and it does not."""
        if not (self.bench.target.bf16_by_hint and self.bench.target.fp16_by_hint):
            return
        short = [Plan(dict.fromkeys(self.offered, choice)) for choice in (BFloat16(), Float16())]
        drops = [self.bench.value(Plan()) - self.bench.value(plan) for plan in short]
        dropped = BFloat16 if drops[0] > self.wanted.max_drop >= drops[1] else Float16
        kept = {site: tuple(c for c in choices if type(c) is not dropped) for site, choices in self.offered.items()}
        self.offered = {site: choices for site, choices in kept.items() if len(choices) > 1}

    def _still_pays(self, site: Site, choice: Choice) -> bool:
        """Whether it can run, and is faster than float where that is all that it is for."""
        ms = self._costs[site, choice]
        asked = self.wanted.objective == "size" or self.wanted.precision == choice.name
        return math.isfinite(ms) and (asked or not isinstance(choice, WeightOnly) or ms < self._costs[site, Float()])

    def _losses_of_hints(self) -> dict[tuple[Site, Choice], float]:
        """A format that the runtime can only give to all float layers at once: each site bears an even share."""
        target = self.bench.target
        hinted = {site: c for site, choices in self.offered.items() for c in choices if is_hint(c, target)}
        if not hinted:
            return {}
        return dict.fromkeys(hinted.items(), self.bench.noise(Plan(hinted), RANGE_SAMPLES) / len(hinted))

    def _crossings(self, flows: Sequence[Flow]) -> tuple[Crossing, ...]:
        kinds = {type(c) for choices in self.offered.values() for c in choices if not is_hint(c, self.bench.target)}
        rates = crossing_rates(self.bench.backend, self.bench.target, self.bench.cache, frozenset(kinds))
        names = [flow.value for flow in flows if rates.casts or flow.value in self.numbers.values]
        return crossings(flows, self.numbers.elements(names), rates)

    def _interactions(self, flows: Sequence[Flow]) -> tuple[Interaction, ...]:
        """Of the choices that the search is likely to look at: those of the plan of the loosest noise that may hold."""
        if not self.numbers.samples:
            return ()
        chosen = {
            site: choice
            for site, choice in solve(self.space, MOST_NOISE, self.wanted.objective).items()
            if not is_hint(choice, self.bench.target)
        }
        return interactions(
            partial(self.numbers.losses_together, self.offered),
            self.numbers.losses, neighbours(flows), chosen, most_pairs(len(self.offered)),
        )  # fmt: skip

    def _classes(self) -> dict[str, list[Site]]:
        """Sites by what they are, the class that takes most time first."""
        nodes = self.bench.model.by_name()
        classes: dict[str, list[Site]] = {}
        for site in self.space.options:
            if site.kind in SPARSE:
                continue
            classes.setdefault(class_of(nodes[site.name]), []).append(site)
        float_ms = {name: sum(self.space.options[site][0].ms for site in sites) for name, sites in classes.items()}
        return dict(sorted(classes.items(), key=lambda item: (-float_ms[item[0]], item[0])))


def is_hint(choice: Choice, target: Target) -> bool:
    """Whether the choice is a property of the whole compiled model: short floats on OpenVINO."""
    by_hint = {BFloat16: target.bf16_by_hint, Float16: target.fp16_by_hint}
    return by_hint.get(type(choice), False)


def class_of(node: ir.Node) -> str:
    """What kernels see of a node: depthwise, grouped, pointwise or spatial convolution, else the operator."""
    if node.op_type != "Conv":
        return node.op_type
    group = node.attributes.get_int("group", 1)
    weight = node.inputs[1]
    shape = list(weight.shape) if weight is not None and weight.shape is not None else []
    if group > 1:
        return "depthwise Conv" if len(shape) > 1 and shape[1] == 1 else "grouped Conv"
    return "pointwise Conv" if all(size == 1 for size in shape[2:]) else "spatial Conv"
