"""Sites, choices and plans: what search decides and passes apply. Frozen data, JSON at the edge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeVar

from lwc.compiler.core.errors import BadPlan

SCHEMA = 1


@dataclass(frozen=True, order=True)
class Site:
    """A place where a decision can be made: a node of the main graph, by its name, or what begins at it.

    name: the node's name (canonicalization makes names unique);  op: operator
    kind: what is decided there; of sparsity 'channels' (a coupled group of them), 'mask', 'rank', 'block' (residual)
    """

    name: str
    op: str
    kind: str = "node"


@dataclass(frozen=True)
class Range:
    """The interval of real values that an integer format covers; always holds zero when quantized."""

    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """Base of what can be chosen at a site. opset: the least that its form in the graph needs."""

    name: ClassVar[str]
    opset: ClassVar[int] = 13


@dataclass(frozen=True)
class Float(Choice):
    """Leave the site as it is."""

    name: ClassVar[str] = "float"


@dataclass(frozen=True)
class StaticInt8(Choice):
    """int8 weights per output channel, unsigned integer activations with the ranges of the plan.

    weight_range: how weight scales are found, 'minmax' or 'mse'
    activation_bits: 8, or 16, which ONNX Runtime computes in float32 between pairs
    bias: 'kept', or 'corrected' for what rounding the weights does to the mean, which needs that of the input
    """

    name: ClassVar[str] = "int8"
    weight_range: str = "minmax"
    activation_bits: int = 8
    bias: str = "kept"


@dataclass(frozen=True)
class DynamicInt8(Choice):
    """int8 weights, activations quantized at run time from their own min and max (MatMulInteger)."""

    name: ClassVar[str] = "int8-dynamic"
    weight_range: str = "minmax"


@dataclass(frozen=True)
class WeightOnly(Choice):
    """Base of integer weights that are computed with in float.

    group: weights that share a scale, along the inputs of each output; 0: one scale per output
    symmetric: zero points in the middle of the codes;  weight_range: a name in solvers.grid.RANGES
    rounding: a name in solvers.roundings.ROUNDINGS; all but 'nearest' need the Gram matrix of the layer's input
    """

    bits: ClassVar[int]
    opset: ClassVar[int] = 21
    group: int = 32
    symmetric: bool = True
    weight_range: str = "mse"
    rounding: str = "nearest"


@dataclass(frozen=True)
class Weight8(WeightOnly):
    """8-bit weights."""

    name: ClassVar[str] = "w8"
    bits: ClassVar[int] = 8


@dataclass(frozen=True)
class Weight4(WeightOnly):
    """4-bit weights."""

    name: ClassVar[str] = "w4"
    bits: ClassVar[int] = 4


@dataclass(frozen=True)
class Weight16(Choice):
    """Weights stored in half precision; arithmetic stays float32."""

    name: ClassVar[str] = "w16"


@dataclass(frozen=True)
class Float16(Choice):
    """IEEE half precision, weights and arithmetic."""

    name: ClassVar[str] = "fp16"


@dataclass(frozen=True)
class BFloat16(Choice):
    """bfloat16, weights and arithmetic."""

    name: ClassVar[str] = "bf16"


@dataclass(frozen=True)
class Float8(Choice):
    """8-bit floats. format: 'e4m3' or 'e5m2'."""

    name: ClassVar[str] = "fp8"
    opset: ClassVar[int] = 19
    format: str = "e4m3"


@dataclass(frozen=True)
class Pruned(Choice):
    """Channels of a group leave, with everything coupled to them.

    removed: numbers of the channels, ascending
    compensation: how the readers of what is left take over, a name in solvers.removal.COMPENSATIONS, or 'in-order':
        'least-squares', and then all layers behind are solved in order (search.in_order)
    """

    name: ClassVar[str] = "pruned"
    removed: tuple[int, ...] = ()
    compensation: str = "none"


@dataclass(frozen=True)
class Masked(Choice):
    """Weights are set to zero in a pattern.

    pattern: '2:4' or other N:M along the inputs of each output, or 'block:RxC' (R outputs by C inputs)
    update: how the weights left are solved again, a name in solvers.masks.UPDATES;  density: kept share of the blocks
    """

    name: ClassVar[str] = "masked"
    pattern: str = "2:4"
    update: str = "none"
    density: float = 0.5


@dataclass(frozen=True)
class LowRank(Choice):
    """One weight matrix becomes the product of two that share `rank`."""

    name: ClassVar[str] = "low-rank"
    rank: int = 1


@dataclass(frozen=True)
class Dropped(Choice):
    """A residual block is left out: what it adds is taken for zero."""

    name: ClassVar[str] = "dropped"


CHOICES: tuple[type[Choice], ...] = (
    Float, StaticInt8, DynamicInt8, Weight8, Weight4, Weight16, Float16, BFloat16, Float8,
    Pruned, Masked, LowRank, Dropped,
)  # fmt: skip

C = TypeVar("C", bound=Choice)


@dataclass(frozen=True)
class Scaling:
    """Channels that a node makes are divided, and the layers that read them take it back: x' = (x - shift) / scale.

    The same function in float; see passes.precision.scale_channels.

    scale: [channels], > 0;  shift: [channels], or empty where nothing is shifted
    """

    site: Site
    scale: tuple[float, ...]
    shift: tuple[float, ...] = ()


@dataclass(frozen=True)
class Plan:
    """One choice per site, and the activation ranges the integer choices need.

    choices: a site that is absent stays as it is;  ranges: value name -> Range, of values as they are once scaled
    scalings: done to the model, in this order, before all else
    """

    choices: Mapping[Site, Choice] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    scalings: tuple[Scaling, ...] = ()

    def sites(self, kind: type[C]) -> Iterator[tuple[Site, C]]:
        """The sites with a choice of this type, in order of insertion."""
        for site, choice in self.choices.items():
            if isinstance(choice, kind):
                yield site, choice

    def replace(self, site: Site, choice: Choice) -> Plan:
        """The same plan with another choice at one site."""
        return Plan({**self.choices, site: choice}, self.ranges, self.scalings)

    def digest(self) -> str:
        return hashlib.blake2b(self.to_json().encode(), digest_size=16).hexdigest()

    def to_json(self) -> str:
        """Stable text: sites sorted by name, scalings in their order, floats in shortest round-trip form."""
        choices = [
            {"site": asdict(site), "choice": choice.name, **asdict(choice)}
            for site, choice in sorted(self.choices.items(), key=lambda item: item[0])
        ]
        ranges = {name: [r.low, r.high] for name, r in sorted(self.ranges.items())}
        scaled = {"scalings": [asdict(scaling) for scaling in self.scalings]} if self.scalings else {}
        return json.dumps({"schema": SCHEMA, "choices": choices, "ranges": ranges, **scaled}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Plan:
        """Parse what `to_json` wrote. Raises BadPlan."""
        by_name = {kind.name: kind for kind in CHOICES}
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA:
                raise BadPlan(f"The plan has schema {data['schema']}; this lwc reads {SCHEMA}.")
            choices: dict[Site, Choice] = {}
            for entry in data["choices"]:
                options = {k: _frozen(v) for k, v in entry.items() if k not in ("site", "choice")}
                choices[Site(**entry["site"])] = by_name[entry["choice"]](**options)
            ranges = {name: Range(float(low), float(high)) for name, (low, high) in data["ranges"].items()}
            scalings = tuple(scaling_of(entry) for entry in data.get("scalings", ()))
        except BadPlan:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadPlan(f"The plan cannot be read ({type(error).__name__}: {error}).") from error
        return Plan(choices, ranges, scalings)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def scaling_of(entry: Mapping[str, Any]) -> Scaling:
    """The scaling that `asdict` made an entry of. Raises KeyError, TypeError, ValueError."""
    scale, shift = (tuple(map(float, entry[name])) for name in ("scale", "shift"))
    return Scaling(Site(**entry["site"]), scale, shift)
