"""The space a plan is chosen from: options per site with cost and loss, and what crossings between formats cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lwc.compiler.core.plan import Choice, Site, StaticInt8


@dataclass(frozen=True)
class Option:
    """One choice at one site.

    ms: measured time of the site in this format;  bytes: of its weights
    loss: measured relative error of the model's outputs when this site alone has the choice
    """

    choice: Choice
    ms: float
    bytes: int
    loss: float

    @property
    def integer(self) -> bool:
        """Whether the site reads and writes quantized activations."""
        return isinstance(self.choice, StaticInt8)


@dataclass(frozen=True)
class Crossing:
    """A value between sites, and what changing its format costs.

    producer: the site that makes it, None when no site does;  consumers: the sites that read it
    read_as_float: it is also read by a node that is no site, or is a graph output
    quantize_ms: paid once when the producer is float and a consumer integer
    dequantize_ms: paid once when the producer is integer and a reader float
    """

    value: str
    producer: Site | None
    consumers: tuple[Site, ...]
    read_as_float: bool
    quantize_ms: float
    dequantize_ms: float


@dataclass(frozen=True)
class Space:
    """All sites with their options, the first of which leaves the site in float."""

    options: Mapping[Site, tuple[Option, ...]]
    crossings: tuple[Crossing, ...] = ()

    def option(self, site: Site, choice: Choice) -> Option:
        return next(option for option in self.options[site] if option.choice == choice)

    def predicted_ms(self, choices: Mapping[Site, Choice]) -> float:
        """Sum of the sites' times and of the crossings between them."""
        picked = {site: self.option(site, choice) for site, choice in choices.items()}
        return sum(option.ms for option in picked.values()) + sum(
            crossing_ms(crossing, picked) for crossing in self.crossings
        )

    def predicted_loss(self, choices: Mapping[Site, Choice]) -> float:
        """Sum of the sites' losses: noise powers of independent errors add."""
        return sum(self.option(site, choice).loss for site, choice in choices.items())


def crossing_ms(crossing: Crossing, picked: Mapping[Site, Option]) -> float:
    """What one value pays under the picked options."""
    from_integer = crossing.producer is not None and picked[crossing.producer].integer
    integer_readers = [picked[site].integer for site in crossing.consumers]
    if from_integer:
        return crossing.dequantize_ms if crossing.read_as_float or not all(integer_readers) else 0.0
    return crossing.quantize_ms if any(integer_readers) else 0.0
