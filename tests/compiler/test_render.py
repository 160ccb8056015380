import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lwc.compiler.core.report import (
    Accuracy,
    CompileReport,
    Latency,
    LatencyPair,
    OutputFidelity,
    SiteReport,
)
from lwc.compiler.render import BAR_WIDTH, PLOT_HEIGHT, render_html, sensitivity, verdict

VOID = frozenset({"meta", "input", "path", "rect", "link", "br", "img"})


class Outline(HTMLParser):
    """Checks that tags nest, and collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

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


def test_every_number_the_user_asked_for_is_on_the_page(report: CompileReport) -> None:
    text = outline(render_html(report)).text
    for expected in ("3.00x", "17.2", "5.75", "0.9811", "0.0022", "32.1", "44.7", "11.3", "97 MB", "synthetic"):
        assert expected in text
    for expected in ("layer.2", "int8-dynamic", "reason 2", "costs 0.02", "weight is shared", "calibrate"):
        assert expected in text


def test_the_page_needs_no_network(report: CompileReport) -> None:
    page = render_html(report)
    loading = [attributes for tag, attributes in outline(page).tags if {"src", "href"} & set(attributes)]
    assert loading == []
    assert not re.search(r"https?:|@import|url\(", page)
    assert len(page.encode()) < 300_000


def test_names_from_the_model_are_no_markup(report: CompileReport) -> None:
    page = render_html(report)
    assert "<b>net</b>" not in page
    assert "models/<b>net</b>.onnx" in outline(page).text


def test_bars_are_as_long_as_their_numbers(report: CompileReport) -> None:
    rects = [attributes for tag, attributes in outline(render_html(report)).tags if tag == "rect"]
    latency = [float(rect["width"] or 0) for rect in rects if rect["class"] in ("original", "compiled")][:2]
    assert latency[0] / latency[1] == pytest.approx(3.0, rel=0.01)


def test_one_disturbed_run_does_not_shrink_the_bars(report: CompileReport) -> None:
    slow = replace(report.latency, original=Latency(17.25, 900.0, 120))
    rects = [tag for tag in outline(render_html(replace(report, latency=slow))).tags if tag[0] == "rect"]
    assert float(rects[0][1]["width"] or 0) > BAR_WIDTH / 2


def test_a_layer_without_loss_stands_on_the_floor() -> None:
    plot = sensitivity([site(0, loss=1e-4), site(1, loss=0.0)])
    assert plot is not None
    assert plot.dots[1].y == PLOT_HEIGHT - 2
    assert len(plot.ticks) == 2


def test_every_row_can_be_sorted_by_its_numbers(report: CompileReport) -> None:
    tags = outline(render_html(report)).tags
    values = [attributes["data-value"] for tag, attributes in tags if tag == "td" and "data-value" in attributes]
    assert len(values) == 4 * len(report.sites)
    assert all(math.isfinite(float(value or "nan")) for value in values)


def test_the_plot_puts_a_larger_loss_higher() -> None:
    plot = sensitivity([site(0, loss=1e-4), site(1, loss=1e-2), site(2, loss=None)])
    assert plot is not None
    assert len(plot.dots) == 2
    assert plot.dots[1].y < plot.dots[0].y <= PLOT_HEIGHT
    assert "layer.1" in plot.dots[1].title


@pytest.mark.parametrize("losses", [[], [None], [0.0, 0.0]])
def test_no_plot_without_losses(losses: list[float | None]) -> None:
    assert sensitivity([site(k, loss=loss) for k, loss in enumerate(losses)]) is None


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
    text = outline(render_html(bare)).text
    assert "model from memory" in text
    assert "∞" in text


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
