"""report.html: the compile report as one page that needs no network.

Here the numbers of the charts are gathered; Chart.js (compiler/vendor/chartjs), embedded in the page, draws them.
Names come from models and may be hostile: they reach the page escaped, as text or as JSON, never as code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from lwc.compiler.core.plain import finite
from lwc.compiler.core.report import CompileReport, SiteReport
from lwc.compiler.search.space import SPARSE

LIBRARY = ("vendor", "chartjs", "chart.umd.min.js")
OWN_SCRIPT = ("report.js",)
LARGEST = 1e308  # stands for infinity where a script sorts


@dataclass(frozen=True)
class Bar:
    """One horizontal bar.

    text: the value with its unit;  details: what else is known of it;  whisker: where its thin line ends
    """

    label: str
    value: float
    text: str
    details: tuple[str, ...] = ()
    whisker: float | None = None


@dataclass(frozen=True)
class Chart:
    """Bars along one axis. kind: "pair" for original and compiled, "stages" for parts of a whole."""

    title: str
    axis: str
    kind: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Loss:
    """One point of the sensitivity plot. order: place among the report's sites, from 1."""

    order: int
    site: str
    op: str
    choice: str
    loss: float


@dataclass(frozen=True)
class Script:
    """A script of the page. digest: its source expression in a content security policy (CSP level 2)."""

    text: Markup
    digest: str


def render_html(report: CompileReport) -> str:
    """The page for one report."""
    charts = bar_charts(report)
    losses = sensitivity(report.sites)
    return _template().render(
        report=report,
        verdict=verdict(report),
        charts=charts,
        losses=losses,
        data=chart_data(charts, losses, report.pareto),
        options=sorted((name, json.dumps(value)) for name, value in finite(report.options).items()),
        scripts=(script(*LIBRARY), script(*OWN_SCRIPT)),
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


def chart_data(
    charts: dict[str, Chart], losses: Sequence[Loss], pareto: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """What the page's script draws, in JSON's types: null for infinities and NaN."""
    data: dict[str, Any] = finite(
        {
            "charts": {name: asdict(chart) for name, chart in charts.items()},
            "losses": [asdict(loss) for loss in losses],
            "pareto": list(pareto),
        }
    )
    return data


def bar_charts(report: CompileReport) -> dict[str, Chart]:
    """The charts that have anything to show, by name."""
    scores, size, memory = report.accuracy, report.size, report.memory
    stages = ((name, seconds) for name, seconds in report.timings_s.items() if seconds and name != "total")
    charts = {
        "latency": Chart("Latency of one run", "ms, median", "pair", _latency_bars(report)),
        "accuracy": Chart(
            f"{scores.metric} on held-out samples",
            scores.metric,
            "pair",
            _bars((("original", scores.original), ("compiled", scores.compiled)), "{}", ".4f"),
        ),
        "size": Chart(
            "Size of the files the runtime needs",
            "MB",
            "pair",
            _bars((("original", size["original_bytes"] / 1e6), ("compiled", size["compiled_bytes"] / 1e6)), "{} MB"),
        ),
        "memory": Chart(
            "Peak memory",
            "MB, peak",
            "pair",
            _bars(((name, memory[f"{name}_peak_mb"]) for name in ("original", "compiled")), "{} MB", ".4g"),
        ),
        "timings": Chart("Stages of the compile", "s", "stages", _bars(stages, "{} s", ".2f")),
    }
    return {name: chart for name, chart in charts.items() if chart.bars}


def sensitivity(sites: Sequence[SiteReport]) -> tuple[Loss, ...]:
    """Predicted loss of every rated site in the order of execution; nothing when none is positive.

    Of sites where something may leave, the first word stands for the choice: what follows says how much left.
    """
    losses = tuple(
        Loss(order, site.name, site.op, _kind_of_choice(site), site.predicted_loss)
        for order, site in enumerate(sites, 1)
        if site.predicted_loss is not None
    )
    return losses if any(0 < loss.loss < math.inf for loss in losses) else ()


def _kind_of_choice(site: SiteReport) -> str:
    return site.choice.partition(" ")[0] if site.kind in SPARSE else site.choice


def _latency_bars(report: CompileReport) -> tuple[Bar, ...]:
    pair = report.latency
    return tuple(
        Bar(
            name,
            latency.median_ms,
            f"{_number(latency.median_ms)} ms",
            (f"p90 {_number(latency.p90_ms)} ms", f"n = {latency.n}", latency.source),
            latency.p90_ms,
        )
        for name, latency in (("original", pair.original), ("compiled", pair.compiled))
    )


def _bars(pairs: Iterable[tuple[str, float | None]], text: str, form: str = ".3g") -> tuple[Bar, ...]:
    return tuple(Bar(name, value, text.format(_number(value, form))) for name, value in pairs if value is not None)


@lru_cache(maxsize=2)
def script(*path: str) -> Script:
    """A script that lies beside this module, to be written into the page as it is."""
    place = files("lwc.compiler")
    for part in path:
        place = place / part
    text = place.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), f"'sha256-{digest}'")


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
    environment.filters["sortable"] = _sortable
    return environment.get_template("report.html.j2")


def _number(value: Any, form: str = ".3g") -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return format(value, form)


def _sortable(value: float | None) -> float:
    """A finite number that sorts where `value` belongs; absent ones come first."""
    return -1 if value is None or math.isnan(value) else min(value, LARGEST)
