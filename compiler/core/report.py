"""The compile report: every number with its unit, its count, and whether it was measured or predicted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run; over samples of several shapes, the mean of theirs. n: how many runs."""

    median_ms: float
    p90_ms: float
    n: int
    source: Literal["measured", "predicted"] = "measured"


@dataclass(frozen=True)
class LatencyPair:
    """Original and compiled, measured side by side in alternating blocks."""

    original: Latency
    compiled: Latency
    speedup: float


@dataclass(frozen=True)
class Accuracy:
    """The metric on held-out samples. drop = original - compiled; interval95 is of the drop, paired bootstrap.

    held: the drop is within max_drop;  samples: how many were scored
    verdict: whether the interval is within the budget (held), beyond it (broken) or straddles it;  note: in words
    """

    metric: str
    original: float
    compiled: float
    drop: float
    max_drop: float
    held: bool
    interval95: tuple[float, float]
    samples: int = 0
    verdict: str = ""
    note: str = ""


@dataclass(frozen=True)
class OutputFidelity:
    """How close one output is to the original's over held-out samples."""

    cosine: float
    sqnr_db: float
    max_abs: float


@dataclass(frozen=True)
class SiteReport:
    """One line of the per-layer table. Predicted values are marked by their names."""

    name: str
    op: str
    kind: str
    choice: str
    predicted_loss: float | None
    predicted_ms: float | None
    parameters: int
    macs: int
    reason: str


@dataclass(frozen=True)
class CompileReport:
    """report.json, see CONTRACT. Field names and nesting are the file's.

    pareto: points of the front as search.pareto.Front.to_list gives them, when it was asked for
    """

    schema: int
    lwc_version: str
    model: dict[str, Any]
    target: dict[str, str]
    backend: str
    options: dict[str, Any]
    calibration: dict[str, Any]
    latency: LatencyPair
    accuracy: Accuracy
    fidelity: dict[str, dict[str, OutputFidelity]]
    size: dict[str, float]
    memory: dict[str, float | None]
    sites: tuple[SiteReport, ...] = ()
    reverted: tuple[dict[str, str], ...] = ()
    skipped: tuple[dict[str, str], ...] = ()
    backends: tuple[dict[str, Any], ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)
    peak_compile_memory_mb: float = 0.0
    pareto: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)
