"""report.html: the compile report as one page that needs no network.

The geometry of the charts is computed here, in pixels of an SVG; the template only places it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2

from lwc.compiler.core.plain import finite
from lwc.compiler.core.report import CompileReport, SiteReport

BAR_WIDTH = 560  # pixels of the longest bar
PLOT_WIDTH, PLOT_HEIGHT = 960, 240
LEAST_LOSS = 1e-12  # of the logarithmic axis, which has no zero
LONGEST_WHISKER = 1.6  # times the longest median: a disturbed run must not shrink the bars


@dataclass(frozen=True)
class Bar:
    """One horizontal bar. width, whisker: pixels;  whisker None: no spread known."""

    label: str
    text: str
    width: float
    role: str
    whisker: float | None = None


@dataclass(frozen=True)
class Dot:
    """One site of the sensitivity plot, in pixels from the plot's left top corner."""

    x: float
    y: float
    width: float
    role: str
    title: str


@dataclass(frozen=True)
class Tick:
    """One line of the logarithmic axis."""

    y: float
    text: str


@dataclass(frozen=True)
class Sensitivity:
    """Loss of every site in the order of execution, on a logarithmic axis."""

    dots: tuple[Dot, ...]
    ticks: tuple[Tick, ...]
    roles: tuple[str, ...]
    width: int = PLOT_WIDTH
    height: int = PLOT_HEIGHT


def render_html(report: CompileReport) -> str:
    """The page for one report."""
    return _template().render(
        report=report,
        verdict=verdict(report),
        latency=_latency_bars(report),
        accuracy=_accuracy_bars(report),
        size=_size_bars(report),
        memory=_memory_bars(report),
        timings=_timing_bars(report),
        sensitivity=sensitivity(report.sites),
        options=sorted((name, json.dumps(value)) for name, value in finite(report.options).items()),
        role=role,
    )


def verdict(report: CompileReport) -> str:
    """The result in one sentence."""
    speed = report.latency.speedup
    faster = f"{speed:.2f}x the speed" if abs(speed - 1) >= 0.005 else "the same speed"
    held = "within" if report.accuracy.held else "over"
    return (
        f"{faster}, {size_change(report.size['ratio'])}, {report.accuracy.metric} "
        f"{report.accuracy.original:.4f} → {report.accuracy.compiled:.4f} "
        f"({held} the budget of {report.accuracy.max_drop:g})"
    )


def size_change(ratio: float) -> str:
    """Original size over compiled size, in words."""
    if abs(ratio - 1) < 0.005:
        return "the same size"
    return f"{ratio:.2f}x smaller" if ratio > 1 else f"{1 / ratio:.2f}x larger"


def role(choice: str) -> str:
    """CSS class of a choice: its family's name."""
    return "float" if choice.startswith("float") or choice == "" else choice.split(" ")[0].replace(".", "-")


def sensitivity(sites: Sequence[SiteReport]) -> Sensitivity | None:
    """The plot of predicted losses; None when no site has one."""
    rated = [(site, site.predicted_loss) for site in sites if site.predicted_loss is not None]
    if not any(loss > 0 for _, loss in rated):
        return None
    positive = [max(loss, LEAST_LOSS) for _, loss in rated if loss > 0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    decades = max(1, high - low)
    step = PLOT_WIDTH / len(rated)
    dots = []
    for i, (site, loss) in enumerate(rated):
        share = (math.log10(max(loss, LEAST_LOSS)) - low) / decades
        y = PLOT_HEIGHT * (1 - max(0.0, share))
        title = f"{site.name} ({site.op}): {site.choice}, predicted loss {loss:.3g}"
        dots.append(Dot(i * step, min(y, PLOT_HEIGHT - 2), max(1.0, 0.8 * step), role(site.choice), title))
    ticks = [
        Tick(PLOT_HEIGHT * (1 - k / decades), f"1e{low + k}") for k in range(0, decades + 1, math.ceil(decades / 5))
    ]
    return Sensitivity(tuple(dots), tuple(ticks), tuple(dict.fromkeys(dot.role for dot in dots)))


def _latency_bars(report: CompileReport) -> list[Bar]:
    pair = report.latency
    slowest = max(pair.original.median_ms, pair.compiled.median_ms) or 1.0
    longest = min(max(slowest, pair.original.p90_ms, pair.compiled.p90_ms), LONGEST_WHISKER * slowest)
    return [
        Bar(
            name,
            f"{latency.median_ms:.3g} ms (p90 {latency.p90_ms:.3g}, n = {latency.n}, {latency.source})",
            BAR_WIDTH * latency.median_ms / longest,
            name,
            BAR_WIDTH * min(latency.p90_ms, longest) / longest,
        )
        for name, latency in (("original", pair.original), ("compiled", pair.compiled))
    ]


def _accuracy_bars(report: CompileReport) -> list[Bar]:
    scores = report.accuracy
    return _bars((("original", scores.original), ("compiled", scores.compiled)), "{:.4f}")


def _size_bars(report: CompileReport) -> list[Bar]:
    size = report.size
    pairs = (("original", size["original_bytes"] / 1e6), ("compiled", size["compiled_bytes"] / 1e6))
    return _bars(pairs, "{:.3g} MB")


def _memory_bars(report: CompileReport) -> list[Bar]:
    peaks = (("original", report.memory["original_peak_mb"]), ("compiled", report.memory["compiled_peak_mb"]))
    return _bars([(name, peak) for name, peak in peaks if peak is not None], "{:.0f} MB peak")


def _timing_bars(report: CompileReport) -> list[Bar]:
    return _bars(
        [(name, seconds) for name, seconds in report.timings_s.items() if name != "total"], "{:.2f} s", "stage"
    )


def _bars(pairs: Sequence[tuple[str, float]], text: str, role: str = "") -> list[Bar]:
    longest = max((abs(value) for _, value in pairs if math.isfinite(value)), default=0.0) or 1.0
    return [
        Bar(
            name,
            text.format(value),
            BAR_WIDTH * max(0.0, value) / longest if math.isfinite(value) else 0.0,
            role or name,
        )
        for name, value in pairs
    ]


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lwc.compiler", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment.get_template("report.html.j2")


def _number(value: Any, form: str = ".3g") -> str:
    if value is None:
        return "–"
    if isinstance(value, float) and not math.isfinite(value):
        return "∞" if value > 0 else "–"
    return format(value, form)
