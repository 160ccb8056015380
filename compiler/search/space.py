"""The space a plan is chosen from: options per site with cost and loss, and what crossings between formats cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lwc.compiler.core.plan import BFloat16, Choice, Float, Float8, Float16, Plan, Range, Site, StaticInt8

SPARSE = frozenset({"channels", "mask", "rank", "block"})  # kinds of sites whose choices are no number formats
FLOAT32 = "float32"
UINT8 = "uint8"
# Formats of the values that pass between sites. Weight-only and dynamic choices are not here: they keep float32.
ACTIVATIONS: Mapping[type[Choice], str] = {
    StaticInt8: UINT8, Float16: "float16", BFloat16: "bfloat16", Float8: "float8",
}  # fmt: skip


@dataclass(frozen=True)
class Option:
    """One choice at one site.

    ms: measured time of the site in this format;  bytes: of its weights, and of what the choice adds to the graph
    loss: measured relative error of the model's outputs when this site alone has the choice
    Of sites of SPARSE kinds ms and bytes are what the choice adds to those of the layers it changes, mostly below 0.
    """

    choice: Choice
    ms: float
    bytes: int
    loss: float

    @property
    def activations(self) -> str:
        """Format of the values the site reads and writes."""
        return ACTIVATIONS.get(type(self.choice), FLOAT32)


@dataclass(frozen=True)
class Crossing:
    """A value between sites, and what changing its format costs.

    producer: the site that makes it, None when no site does;  consumers: the sites that read it
    read_as_float: it is also read by a node that is no site, or is a graph output
    quantize_ms: paid once when the producer is float and a consumer integer
    dequantize_ms: paid once when the producer is integer and a reader float
    cast_ms: by short float format, paid once to bring it into that, and once to leave it
    """

    value: str
    producer: Site | None
    consumers: tuple[Site, ...]
    read_as_float: bool
    quantize_ms: float
    dequantize_ms: float
    cast_ms: Mapping[str, float] = field(default_factory=dict)

    def enter_ms(self, activations: str) -> float:
        """From float32 to the format."""
        return self.quantize_ms if activations == UINT8 else self.cast_ms.get(activations, 0.0)

    def leave_ms(self, activations: str) -> float:
        """From the format to float32."""
        return self.dequantize_ms if activations == UINT8 else self.cast_ms.get(activations, 0.0)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that make or read the value."""
        return self.consumers if self.producer is None else (self.producer, *self.consumers)


@dataclass(frozen=True)
class Interaction:
    """Two choices that lose more together (loss > 0), or less, than both alone sum up to.

    loss: measured with both, less that of each alone
    """

    first: tuple[Site, Choice]
    second: tuple[Site, Choice]
    loss: float

    @property
    def sites(self) -> tuple[Site, Site]:
        return self.first[0], self.second[0]

    def counts(self, picked: Mapping[Site, Option]) -> bool:
        """Whether both choices are picked."""
        return all(picked[site].choice == choice for site, choice in (self.first, self.second))


@dataclass(frozen=True)
class Space:
    """All sites with their options, the first of which leaves the site in float.

    interactions: such that no plan is predicted to lose less than nothing
    """

    options: Mapping[Site, tuple[Option, ...]]
    crossings: tuple[Crossing, ...] = ()
    interactions: tuple[Interaction, ...] = ()

    @property
    def start(self) -> dict[Site, Choice]:
        """The first option everywhere: float, and what was asked for whatever it loses."""
        return self.complete({})

    def formats(self) -> dict[Choice, list[Site]]:
        """Number formats besides float, with the sites that offer them."""
        found: dict[Choice, list[Site]] = {}
        for site, options in self.options.items():
            for option in options[1:]:
                if site.kind not in SPARSE:
                    found.setdefault(option.choice, []).append(site)
        return found

    def option(self, site: Site, choice: Choice) -> Option:
        return next(option for option in self.options[site] if option.choice == choice)

    def complete(self, choices: Mapping[Site, Choice]) -> dict[Site, Choice]:
        """A choice for every site: the first option where none is given."""
        return {site: choices.get(site, options[0].choice) for site, options in self.options.items()}

    def predicted_ms(self, choices: Mapping[Site, Choice]) -> float:
        """Sum of the sites' times and of the crossings between them."""
        picked = {site: self.option(site, choice) for site, choice in choices.items()}
        return sum(option.ms for option in picked.values()) + sum(
            crossing_ms(crossing, picked) for crossing in self.crossings
        )

    def predicted_bytes(self, choices: Mapping[Site, Choice]) -> int:
        """Sum of the sites' weights."""
        return sum(self.option(site, choice).bytes for site, choice in choices.items())

    def predicted_loss(self, choices: Mapping[Site, Choice]) -> float:
        """Sum of the sites' losses, as noise powers of independent errors add, and of what pairs are off that sum."""
        picked = {site: self.option(site, choice) for site, choice in choices.items()}
        return sum(option.loss for option in picked.values()) + sum(
            pair.loss for pair in self.interactions if pair.counts(picked)
        )


def node_name(site: Site) -> str:
    """Name of the node that the site is at; a node that makes several groups of channels has a number behind it."""
    return site.name.rpartition("#")[0] if site.kind == "channels" and "#" in site.name else site.name


def crossing_ms(crossing: Crossing, picked: Mapping[Site, Option]) -> float:
    """What one value pays under the picked options: every format is entered once and left once, through float32."""
    made = FLOAT32 if crossing.producer is None else picked[crossing.producer].activations
    read = {picked[site].activations for site in crossing.consumers}
    if crossing.read_as_float:
        read.add(FLOAT32)
    foreign = read - {made}
    if not foreign:
        return 0.0
    left = 0.0 if made == FLOAT32 else crossing.leave_ms(made)
    return left + sum(crossing.enter_ms(each) for each in sorted(foreign) if each != FLOAT32)


def plan_of(choices: Mapping[Site, Choice], ranges: Mapping[str, Range]) -> Plan:
    """The plan of these choices: sites sorted, float ones left out, no ranges when nothing is left."""
    chosen = {site: choice for site, choice in sorted(choices.items()) if not isinstance(choice, Float)}
    return Plan(chosen, ranges if chosen else {})
