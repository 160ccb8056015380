import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lwc.compiler.core.report import (
    Accuracy,
    CompileReport,
    Latency,
    LatencyPair,
    OutputFidelity,
    SiteReport,
)
from lwc.compiler.render import LIBRARY, OWN_SCRIPT, bar_charts, chart_data, render_html, script, sensitivity, verdict

VOID = frozenset({"meta", "input", "link", "br", "img"})
VENDORED = Path(__file__).parents[2] / "compiler" / "vendor" / "chartjs"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&<!--{{ 7*7 }}\u2028"


class Outline(HTMLParser):
    """Checks that tags nest, and collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        closed_at_once = (self.get_starttag_text() or "").endswith("/>")
        if tag not in VOID and not closed_at_once:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts += [data] if self.open[-1] == "script" else []
        else:
            self.text += data


def site(k: int, choice: str = "int8", loss: float | None = 0.01) -> SiteReport:
    return SiteReport(f"layer.{k}", "Conv", "node", choice, loss, 0.5, 1000, 2_000_000, f"reason {k}")


@pytest.fixture
def report() -> CompileReport:
    return CompileReport(
        schema=1,
        lwc_version="0.1.0",
        model={"path": "models/<b>net</b>.onnx", "sha256": "ab", "bytes": 4, "parameters": 1, "nodes": 2, "opset": 17},
        target={"name": "host", "device": "cpu", "fingerprint": "f00"},
        backend="onnxruntime",
        options={"seed": 0, "calib": "x.npz"},
        calibration={"samples": 24, "held_out": 8, "source": "synthetic", "sha256": "00"},
        latency=LatencyPair(Latency(17.25, 18.9, 120), Latency(5.75, 6.0, 300), 3.0),
        accuracy=Accuracy("top1", 0.9833, 0.9811, 0.0022, 0.01, True, (-0.002, 0.006)),
        fidelity={"outputs": {"logits": OutputFidelity(0.99987, 32.1, 0.12)}},
        size={"original_bytes": 44.7e6, "compiled_bytes": 11.3e6, "ratio": 3.956},
        memory={"original_peak_mb": 181.0, "compiled_peak_mb": 97.0},
        sites=(site(0), site(1, "float", 0.0), site(2, "int8-dynamic", 1e-5)),
        reverted=({"site": "layer.1", "choice": "int8", "reason": "costs 0.02"},),
        skipped=({"site": "fc", "pass": "qdq", "reason": "weight is shared"},),
        backends=({"name": "onnxruntime", "median_ms": 5.75, "reason": "kept"},),
        timings_s={"load": 0.1, "calibrate": 4.0, "total": 4.1},
        peak_compile_memory_mb=612.0,
    )


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    assert parsed.open == []
    return parsed


def data_of(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="chart-data">(.*?)</script>', page, re.DOTALL)
    assert found
    parsed: dict[str, Any] = json.loads(found[1], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return parsed


def values(page: str, chart: str) -> list[float | None]:
    return [bar["value"] for bar in data_of(page)["charts"][chart]["bars"]]


def without_library(page: str) -> str:
    return page.replace(str(script(*LIBRARY).text), "")


def test_every_number_the_user_asked_for_is_on_the_page(report: CompileReport) -> None:
    text = outline(render_html(report)).text
    for expected in ("3.00x", "17.2", "5.75", "0.9811", "0.0022", "32.1", "44.7", "11.3", "97 MB", "synthetic"):
        assert expected in text
    for expected in ("layer.2", "int8-dynamic", "reason 2", "costs 0.02", "weight is shared", "calibrate"):
        assert expected in text


def test_the_page_needs_no_network(report: CompileReport) -> None:
    page = render_html(report)
    loading = [attributes for _, attributes in outline(page).tags if {"src", "href"} & set(attributes)]
    assert [attributes["href"] for attributes in loading] == ["#layers"]
    assert not re.search(r"https?:|@import|url\(|sourceMappingURL", without_library(page))
    assert "sourceMappingURL" not in page
    assert len(page.encode()) < 300_000


def test_the_browser_is_told_to_load_nothing_and_run_these_scripts_alone(report: CompileReport) -> None:
    parsed = outline(render_html(report))
    policy = next(attributes["content"] for tag, attributes in parsed.tags if attributes.get("http-equiv"))
    run = [text for text in parsed.scripts if not text.startswith("{")]
    assert run == [script(*LIBRARY).text, script(*OWN_SCRIPT).text]
    allowed = " ".join(script(*path).digest for path in (LIBRARY, OWN_SCRIPT))
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"


def test_the_library_is_the_recorded_one() -> None:
    library = VENDORED / "chart.umd.min.js"
    recorded = (VENDORED / "VERSION").read_text(encoding="utf-8").split()
    assert hashlib.sha256(library.read_bytes()).hexdigest() == recorded[-1]
    banner = library.read_text(encoding="utf-8")[:200]
    assert f"Chart.js v{recorded[1].rstrip(',')}" in banner
    assert "MIT License" in banner
    assert "Permission is hereby granted" in (VENDORED / "LICENSE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [LIBRARY, OWN_SCRIPT])
def test_a_script_does_not_end_its_own_element(path: tuple[str, ...]) -> None:
    assert not re.search(r"</script|<!--", str(script(*path).text), re.IGNORECASE)


def test_names_from_the_model_are_no_markup(report: CompileReport) -> None:
    page = render_html(report)
    assert "<b>net</b>" not in page
    assert "models/<b>net</b>.onnx" in outline(page).text


def test_hostile_names_add_no_element_and_arrive_as_they_are(report: CompileReport) -> None:
    sites = (replace(site(0), name=HOSTILE, op=HOSTILE, choice=HOSTILE, reason=HOSTILE), *report.sites[1:])
    hostile = replace(
        report,
        model={**report.model, "path": HOSTILE},
        sites=sites,
        accuracy=replace(report.accuracy, metric=HOSTILE),
        fidelity={"outputs": {HOSTILE: OutputFidelity(1.0, 30.0, 0.1)}},
        timings_s={HOSTILE: 1.0},
    )
    plain, attacked = outline(render_html(report)), outline(render_html(hostile))
    count = sorted({tag for tag, _ in plain.tags} - {"tr", "td", "code"})
    for tag in count:
        found = [[name for name, _ in page.tags].count(tag) for page in (plain, attacked)]
        assert found[0] == found[1], tag
    assert {tag for tag, _ in attacked.tags} == {tag for tag, _ in plain.tags}
    assert not any(name.startswith("on") for _, attributes in attacked.tags for name in attributes)
    data = data_of(render_html(hostile))
    assert data["losses"][0]["site"] == data["losses"][0]["choice"] == HOSTILE
    assert data["charts"]["timings"]["bars"][0]["label"] == HOSTILE


def test_the_data_in_the_page_are_the_reports_numbers(report: CompileReport) -> None:
    page = render_html(report)
    assert data_of(page) == json.loads(json.dumps(chart_data(bar_charts(report), sensitivity(report.sites))))
    assert values(page, "latency") == [17.25, 5.75]
    assert [bar["whisker"] for bar in data_of(page)["charts"]["latency"]["bars"]] == [18.9, 6.0]
    assert data_of(page)["charts"]["latency"]["bars"][0]["details"] == ["p90 18.9 ms", "n = 120", "measured"]
    assert values(page, "accuracy") == [0.9833, 0.9811]
    assert values(page, "size") == [44.7, 11.3]
    assert values(page, "memory") == [181.0, 97.0]
    assert values(page, "timings") == [0.1, 4.0]


def test_every_chart_has_a_canvas_and_a_table_of_its_numbers(report: CompileReport) -> None:
    page = render_html(report)
    drawn = [attributes["data-chart"] for tag, attributes in outline(page).tags if tag == "canvas"]
    data = data_of(page)
    assert drawn == ["latency", "accuracy", "size", "memory", "losses", "timings"]
    assert set(drawn) == {*data["charts"], "losses"}
    tables = re.findall(r'<details class="numbers" open>(.*?)</details>', page, re.DOTALL)
    assert len(tables) == len(data["charts"])
    for name, chart in data["charts"].items():
        cells = next(table for table in tables if f"Numbers: {chart['title']}<" in table)
        for bar in chart["bars"]:
            assert all(f">{text}</td>" in cells for text in (bar["label"], bar["text"], *bar["details"])), name


def test_without_scripts_the_page_says_where_the_numbers_are(report: CompileReport) -> None:
    page = render_html(report)
    said = re.search(r"<noscript>(.*?)</noscript>", page)
    assert said
    assert "tables hold the same numbers" in said[1]
    holders = re.findall(r"<div class=\"chart\"[^>]*>", page)
    assert holders
    assert all("hidden" in holder for holder in holders)


def test_a_layer_without_loss_keeps_its_zero() -> None:
    losses = sensitivity([site(0, loss=1e-4), site(1, loss=0.0)])
    assert [loss.loss for loss in losses] == [1e-4, 0.0]


def test_layers_without_rating_are_left_out_but_keep_their_place() -> None:
    losses = sensitivity([site(0, loss=1e-4), site(1, loss=None), site(2, "float", 1e-2)])
    assert [(loss.order, loss.site, loss.op, loss.choice) for loss in losses] == [
        (1, "layer.0", "Conv", "int8"),
        (3, "layer.2", "Conv", "float"),
    ]


@pytest.mark.parametrize("losses", [[], [None], [0.0, 0.0], [math.nan], [math.inf, 0.0]])
def test_no_plot_without_losses(report: CompileReport, losses: list[float | None]) -> None:
    sites = tuple(site(k, loss=loss) for k, loss in enumerate(losses))
    assert sensitivity(sites) == ()
    assert 'data-chart="losses"' not in render_html(replace(report, sites=sites))


def test_every_row_can_be_sorted_by_its_numbers(report: CompileReport) -> None:
    sites = (*report.sites, site(3, loss=None), site(4, loss=math.nan), site(5, loss=math.inf))
    tags = outline(render_html(replace(report, sites=sites))).tags
    keys = [float(attributes["data-value"] or "nan") for tag, attributes in tags if "data-value" in attributes]
    assert len(keys) == 4 * len(sites)
    assert all(math.isfinite(key) for key in keys)
    assert keys[::4] == [0.01, 0.0, 1e-5, -1, -1, 1e308]


def test_a_report_of_a_bare_model_renders(report: CompileReport) -> None:
    bare = replace(
        report,
        model={**report.model, "path": None},
        sites=(),
        reverted=(),
        skipped=(),
        backends=(),
        fidelity={"outputs": {"y": OutputFidelity(1.0, math.inf, 0.0)}},
        memory={"original_peak_mb": None, "compiled_peak_mb": None},
        accuracy=replace(report.accuracy, interval95=(math.nan, math.nan), compiled=math.nan),
        timings_s={},
    )
    page = render_html(bare)
    text = outline(page).text
    assert "model from memory" in text
    assert "∞" in text
    assert set(data_of(page)["charts"]) == {"latency", "accuracy", "size"}


def test_undefined_and_infinite_numbers_become_null_in_the_data_and_signs_in_the_text(report: CompileReport) -> None:
    odd = replace(
        report,
        latency=replace(report.latency, compiled=Latency(math.nan, math.inf, 0)),
        accuracy=replace(report.accuracy, original=-math.inf, compiled=math.nan),
        memory={"original_peak_mb": None, "compiled_peak_mb": 97.0},
        sites=(site(0, loss=math.nan), site(1, loss=math.inf), site(2, loss=1e-3)),
    )
    page = render_html(odd)
    assert values(page, "latency") == [17.25, None]
    assert values(page, "accuracy") == [None, None]
    assert values(page, "memory") == [97.0]
    assert [loss["loss"] for loss in data_of(page)["losses"]] == [None, None, 1e-3]
    charts = bar_charts(odd)
    assert [bar.text for bar in charts["accuracy"].bars] == ["−∞", "–"]
    assert charts["latency"].bars[1].details[0] == "p90 ∞ ms"


def test_the_verdict_says_when_the_budget_broke(report: CompileReport) -> None:
    assert "within the budget of 0.01" in verdict(report)
    broken = replace(report, accuracy=replace(report.accuracy, held=False))
    assert "over the budget" in verdict(broken)
    assert 'class="big bad"' in render_html(broken)


@pytest.mark.parametrize(
    ("ratio", "words"), [(3.956, "3.96x smaller"), (1.001, "the same size"), (0.8, "1.25x larger")]
)
def test_the_verdict_says_how_the_size_changed(report: CompileReport, ratio: float, words: str) -> None:
    assert words in verdict(replace(report, size={**report.size, "ratio": ratio}))


def test_the_same_report_gives_the_same_page(report: CompileReport) -> None:
    assert render_html(report) == render_html(report)


@pytest.fixture
def front(report: CompileReport) -> CompileReport:
    kept = {"speedup": 2.0, "noise": 1e-4, "artifact": "", "front": True}
    points = (
        {"name": "01", "ms": 5.75, "bytes": 11_300_000, "drop": 0.0022, "choices": {"int8": 3}, **kept},
        {"name": "02", "ms": 9.5, "bytes": 6_100_000, "drop": math.nan, "choices": {}, **kept},
        {"name": "", "ms": 12.0, "bytes": 44_700_000, "drop": 0.5, "choices": {"w4": 9}, **kept, "front": False},
    )
    return replace(report, pareto=points)


def test_the_front_is_drawn_and_its_points_are_listed(front: CompileReport) -> None:
    page = render_html(front)
    assert 'data-chart="pareto"' in page
    points = data_of(page)["pareto"]
    assert [point["name"] for point in points] == ["01", "02", ""]
    assert points[1]["drop"] is None
    text = outline(page).text
    for expected in ("3 int8", "6.1", "9.5", "2.00x"):
        assert expected in text
    assert "9 w4" not in text  # beaten points are in the chart alone


def test_without_a_front_there_is_no_chart_of_it(report: CompileReport) -> None:
    assert 'data-chart="pareto"' not in render_html(report)


def test_names_of_points_are_no_markup(front: CompileReport) -> None:
    hostile = replace(front, pareto=({**front.pareto[0], "artifact": HOSTILE, "choices": {HOSTILE: 1}},))
    page = render_html(hostile)
    plain = [tag for tag, _ in outline(render_html(replace(front, pareto=front.pareto[:1]))).tags]
    assert [tag for tag, _ in outline(page).tags] == plain
    assert data_of(page)["pareto"][0]["artifact"] == HOSTILE


def test_what_was_done_about_a_straddling_budget_is_on_the_page(report: CompileReport) -> None:
    note = "The drop straddles the budget. The plan was kept."
    assert note in outline(render_html(replace(report, accuracy=replace(report.accuracy, note=note)))).text
