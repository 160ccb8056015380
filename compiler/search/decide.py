"""Turn a workbench into a plan, stage by stage: statistics, ranges, costs, losses, search.

What values are and what rounding them loses is arithmetic: measured once, on the reference runtime, for all runtimes.
What a site costs is measured on each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from lwc.compiler.analysis.activations import collect
from lwc.compiler.analysis.sites import choices_at, find_sites, macs
from lwc.compiler.core.backend import Session
from lwc.compiler.core.errors import BadInput
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import BFloat16, Choice, Float, Plan, Range, Site, StaticInt8
from lwc.compiler.core.stats import LayerStats, TensorStats, load_stats, save_stats
from lwc.compiler.data import Calibration
from lwc.compiler.search.cost import crossing_rates, crossings, measured_costs, weight_bytes
from lwc.compiler.search.evaluate import Workbench
from lwc.compiler.search.find import Finder, Found
from lwc.compiler.search.ranges import candidate_ranges, choose_ranges
from lwc.compiler.search.sensitivity import measured_losses, samples_for
from lwc.compiler.search.solve import Objective
from lwc.compiler.search.space import Crossing, Option, Space
from lwc.passes.precision import required_values

RANGE_SAMPLES = 4  # on which the candidates for activation ranges are compared

# Names of the choices that each --precision offers beside float.
PRECISIONS: Mapping[str, frozenset[str]] = {
    "auto": frozenset({"fp16", "bf16", "fp8", "int8", "int8-dynamic", "w8", "w4"}),
    "fp32": frozenset(),
    **{name: frozenset({name}) for name in ("fp16", "bf16", "fp8", "int8", "int8-dynamic", "w8", "w4")},
}


@dataclass
class Decider:
    """The stages of a decision, in order; each reads what the one before left.

    bench: of the runtime that is decided for;  numerics: where statistics, ranges and losses are measured
    each: called after every measurement, for progress bars
    """

    bench: Workbench
    numerics: Workbench
    calibration: Calibration
    precision: str = "auto"
    objective: Objective = "latency"
    max_drop: float = 0.01
    max_memory_bytes: int = 1_000_000_000
    each: Callable[[], None] = lambda: None
    offered: dict[Site, tuple[Choice, ...]] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    space: Space = field(default_factory=lambda: Space({}))
    _values: dict[str, TensorStats] = field(default_factory=dict)
    _costs: dict[tuple[Site, Choice], float] = field(default_factory=dict)
    _losses: dict[tuple[Site, Choice], float] = field(default_factory=dict)

    def moved(self, bench: Workbench) -> Decider:
        """The same decision for another runtime: its sites and costs are found anew."""
        return replace(self, bench=bench, offered={}, space=Space({}), _costs={})

    def find_sites(self) -> None:
        """Sites of the cleaned model with the choices that target and precision allow; float first."""
        allowed = PRECISIONS[self.precision] | {Float.name}
        for site in find_sites(self.bench.model, self.bench.target):
            choices = choices_at(self.bench.model, site, self.bench.target)
            kept = tuple(choice for choice in choices if choice.name in allowed)
            if len(kept) > 1:
                self.offered[site] = kept

    def calibrate(self) -> None:
        """Stream the samples once into statistics of every value static int8 needs; choose the ranges."""
        static = self.static_choices()
        if not static or self.ranges:
            return
        self._values = self._statistics(required_values(self.bench.model.ir, tuple(static)))
        self.ranges = self._best_ranges(static)

    def measure_costs(self) -> None:
        """Milliseconds of every site and choice, from profiles of whole models."""
        self._costs = measured_costs(self.bench, self.offered, self.ranges)

    def measurements(self) -> int:
        """How many (site, choice) pairs besides float there are."""
        return sum(len(choices) - 1 for choices in self.offered.values())

    def measure_losses(self) -> None:
        """Loss of every site and choice; with the costs that completes the space."""
        missing = {
            site: tuple(choice for choice in choices if (site, choice) not in self._losses)
            for site, choices in self.offered.items()
        }
        self._losses |= self._losses_of_hints(missing)
        self._losses |= self._losses_of({s: [c for c in choices if not is_hint(c)] for s, choices in missing.items()})
        nodes = {node.name or "": node for node in self.bench.model.graph}
        options = {
            site: tuple(self._option(site, choice, nodes[site.name]) for choice in choices)
            for site, choices in self.offered.items()
        }
        self.space = Space(options, self._crossings() if options else ())

    def search(self) -> Found:
        """The plan."""
        finder = Finder(self.space, self.ranges, self.bench, self.max_drop, self._classes(), self.objective, self.each)
        return finder.find()

    def static_choices(self) -> dict[Site, Choice]:
        """Every site that can be static int8, with that choice."""
        return {site: c for site, choices in self.offered.items() for c in choices if isinstance(c, StaticInt8)}

    def _losses_of(self, options: Mapping[Site, Sequence[Choice]]) -> dict[tuple[Site, Choice], float]:
        total = sum(macs(node) for node in self.bench.model.graph)
        count = samples_for(total, self.measurements(), len(self.numerics.samples))
        return measured_losses(self.numerics, options, self.ranges, count, self.each)

    def _losses_of_hints(self, options: Mapping[Site, Sequence[Choice]]) -> dict[tuple[Site, Choice], float]:
        """A format that the runtime can only give to all float layers at once: each site bears an even share."""
        hinted = {site: choice for site, choices in options.items() for choice in choices if is_hint(choice)}
        if not hinted:
            return {}
        noise = self.bench.noise(Plan(hinted), RANGE_SAMPLES) / len(hinted)
        return dict.fromkeys(hinted.items(), noise)

    def _option(self, site: Site, choice: Choice, node: ir.Node) -> Option:
        return Option(choice, self._costs[site, choice], weight_bytes(node, choice), self._losses[site, choice])

    def _statistics(self, names: frozenset[str]) -> dict[str, TensorStats]:
        nodes = _nodes_that_touch(self.numerics.model, names)
        sites = {node: Site(node.name or "", node.op_type, "value") for node in nodes}
        path = self.numerics.cache.path("stats", (*self.numerics.key, tuple(sorted(names))), ".npz")
        stats = _kept_stats(path)
        if stats is None:
            stats = collect(
                self.numerics.model, tuple(sites.values()), self.calibration, self._open,
                max_memory_bytes=self.max_memory_bytes, progress=lambda done, total: self.each(), values=names,
            )  # fmt: skip
            if path is not None:
                save_stats(path, stats)
        by_value: dict[str, TensorStats] = {}
        for node, site in sites.items():
            for values, found in ((node.inputs, stats[site].inputs), (node.outputs, stats[site].outputs)):
                by_value.update({v.name: s for v, s in zip(values, found, strict=True) if v and v.name in names and s})
        return by_value

    def _best_ranges(self, static: Mapping[Site, Choice]) -> dict[str, Range]:
        """Ranges by layer output error, or one method for all values, whichever the whole model likes best."""
        key = (*self.numerics.key, tuple(sorted(self._values)))
        known = self.numerics.cache.get("ranges", key)
        if known is None:
            candidates = candidate_ranges(self._values)
            samples = [self.numerics.samples[i] for i in range(min(RANGE_SAMPLES, len(self.numerics.samples)))]
            candidates["layer"] = choose_ranges(self.numerics.model, self._values, samples, self._open, self.each)
            noises = {name: self.numerics.noise(Plan(static, r), RANGE_SAMPLES) for name, r in candidates.items()}
            best = candidates[min(noises, key=noises.__getitem__)]
            known = {name: [r.low, r.high] for name, r in best.items()}
            self.numerics.cache.put("ranges", key, known)
        return {name: Range(low, high) for name, (low, high) in known.items()}

    def _open(self, model: Model, outputs: Sequence[str]) -> Session:
        return self.numerics.backend.session(model, self.numerics.target, outputs)

    def _crossings(self) -> tuple[Crossing, ...]:
        rates = crossing_rates(self.bench.backend, self.bench.target, self.bench.cache)
        elements = {name: s.count / max(1, len(self.calibration)) for name, s in self._values.items()}
        return crossings(self.bench.model, list(self.offered), elements, rates, self.bench.target)

    def _classes(self) -> dict[str, list[Site]]:
        """Sites by what they are, the class that takes most time first."""
        nodes = {node.name or "": node for node in self.bench.model.graph}
        classes: dict[str, list[Site]] = {}
        for site in self.space.options:
            classes.setdefault(class_of(nodes[site.name]), []).append(site)
        float_ms = {name: sum(self.space.options[site][0].ms for site in sites) for name, sites in classes.items()}
        return dict(sorted(classes.items(), key=lambda item: (-float_ms[item[0]], item[0])))


def _kept_stats(path: Path | None) -> dict[Site, LayerStats] | None:
    """Statistics of an earlier compile; None when there are none, or the file is damaged."""
    if path is None or not path.exists():
        return None
    try:
        return load_stats(path)
    except BadInput:
        return None


def is_hint(choice: Choice) -> bool:
    """Whether the choice is a property of the whole compiled model: bfloat16 on OpenVINO."""
    return isinstance(choice, BFloat16)


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


def _nodes_that_touch(model: Model, names: frozenset[str]) -> list[ir.Node]:
    """Producers of the values; for graph inputs, a node that reads them."""
    nodes: dict[ir.Node, None] = {}
    for node in model.graph:
        if any(value.name in names for value in node.outputs):
            nodes.setdefault(node)
    inputs = {value.name for value in model.graph.inputs} & names
    for node in model.graph:
        read = {value.name for value in node.inputs if value is not None} & inputs
        if read:
            nodes.setdefault(node)
            inputs -= read
    return list(nodes)
