"""lwc inspect, analyze, verify, bench: tables about models and artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lwc.compiler.bench import Bench
from lwc.compiler.bench import bench as measure
from lwc.compiler.cli import parameters
from lwc.compiler.cli.screen import Column, Screen
from lwc.compiler.core.model import Model
from lwc.compiler.core.report import OutputFidelity
from lwc.compiler.driver import analyze_model
from lwc.compiler.groups import GroupTable, groups_of
from lwc.compiler.inspect import INSERTED, Layer
from lwc.compiler.inspect import inspect as look_into
from lwc.compiler.options import make_options
from lwc.compiler.search.cheap import METHODS
from lwc.compiler.search.decide import MEASURED
from lwc.compiler.verify import THRESHOLD_DB, Comparison
from lwc.compiler.verify import verify as compare

Shape = Mapping[str, tuple[int, ...]] | None
MOST_NAMED = 6  # coupled tensors of a group; all of them are in the JSON


@click.command()
@parameters.model
@parameters.target
@parameters.calib
@parameters.shape
@click.option("--backend", metavar="ort|tvm|openvino", help="Say which layers it takes, and why not the others.")
@click.option("--no-profile", is_flag=True, help="Do not run the model: no shares of time.")
@click.option("--groups", is_flag=True, help="Show which channels must leave together, and which cannot, instead.")
@parameters.with_screen
def inspect(
    screen: Screen,
    model: str,
    target: str | None,
    calib: str | None,
    shape: Shape,
    backend: str | None,
    no_profile: bool,
    groups: bool,
) -> None:
    """Show the layers of MODEL (or an artifact): operator, shape, weight, work, share of time, choice."""
    if groups:
        show_groups(screen, groups_of(model, shape=shape, target=target or "host"))
        return
    layers = look_into(
        model, calib=calib, shape=shape, target=target or "host", backend=backend, profile=not no_profile
    )
    if screen.as_json:
        screen.data({"layers": [asdict(layer) for layer in layers]})
    last = ("choice",) if backend is None else ("choice", f"{backend} takes it")
    columns = ("layer", "op", "shape"), ("parameters", "MACs", "bytes", "time"), last
    rows = [
        (
            layer.name,
            layer.op,
            "x".join(map(str, layer.shape)) if layer.shape is not None else "?",
            f"{layer.parameters:,}",
            f"{layer.macs:,}",
            f"{layer.bytes:,}",
            "" if layer.share is None else f"{layer.share:.1%}",
            layer.choice,
            *(() if backend is None else (_taken(layer),)),
        )
        for layer in layers
    ]
    screen.table([Column(title, k == 1) for k, titles in enumerate(columns) for title in titles], rows)
    screen.line(
        f"{len(layers)} layers, {sum(layer.parameters for layer in layers):,} parameters, "
        f"{sum(layer.macs for layer in layers):,} MACs"
    )


def show_groups(screen: Screen, found: GroupTable) -> None:
    """Groups of channels, and the axes that must stay whole."""
    if screen.as_json:
        screen.data(asdict(found))
        return
    columns = (
        Column("group"), Column("op"), Column("channels", True), Column("kind"), Column("parameters", True),
        Column("MACs", True), Column("coupled tensors"),
    )  # fmt: skip
    rows = [
        (
            line.name,
            line.op,
            str(line.channels),
            "heads" if line.heads else "channels",
            f"{line.parameters:,}",
            f"{line.macs:,}",
            ", ".join(line.tensors[:MOST_NAMED]) + (", ..." if len(line.tensors) > MOST_NAMED else ""),
        )
        for line in found.groups
    ]
    screen.table(columns, rows)
    titles = (Column("kept whole"), Column("axis", True), Column("size", True), Column("by"), Column("why"))
    refused = [(r.value, str(r.axis), str(r.size), f"{r.operator} '{r.node}'", r.reason) for r in found.refused]
    screen.table(titles, refused)
    screen.line(f"{len(rows)} groups of channels, {len(refused)} axes that stay whole")


def _taken(layer: Layer) -> str:
    if layer.op == INSERTED:
        return ""
    return f"no: {layer.refused}" if layer.refused else "yes"


@click.command()
@parameters.model
@parameters.search_options
@click.option(
    "--method",
    type=click.Choice([MEASURED, *(name for name, _ in METHODS)]),
    default=MEASURED,
    show_default=True,
    help="How losses are found: measured end to end, or guessed from the layers.",
)
@parameters.with_screen
def analyze(screen: Screen, model: str, recipe: str | None, method: str, **flags: Any) -> None:
    """Show what each choice would cost and lose at each layer of MODEL."""
    options = make_options(flags, Path(recipe) if recipe else None)
    with screen.progress() as progress:
        lines = analyze_model(Model.open(model), options, progress, method)
    if screen.as_json:
        screen.data({"sites": [asdict(line) for line in lines]})
    columns = (Column("layer"), Column("op"), Column("choice"), Column("ms", True), Column("loss", True))
    rows = [(line.site, line.op, line.choice, f"{line.ms:.4f}", f"{line.loss:.3g}") for line in lines]
    screen.table(columns, rows)


@click.command()
@click.argument("a")
@click.argument("b")
@parameters.calib
@click.option("--samples", type=int, metavar="N", help="Compare on N samples [default: 8].")
@parameters.shape
@parameters.target
@parameters.seed
@click.option("--bisect", is_flag=True, help="Name the first layer where the two part.")
@click.option(
    "--threshold", type=float, default=THRESHOLD_DB, show_default=True, metavar="DB", help="Parted below this SQNR."
)
@parameters.with_screen
def verify(
    screen: Screen,
    a: str,
    b: str,
    calib: str | None,
    samples: int | None,
    shape: Shape,
    target: str | None,
    seed: int | None,
    bisect: bool,
    threshold: float,
) -> None:
    """Compare models or artifacts A and B on the same samples: per output and per layer."""
    with screen.progress() as progress:
        found = compare(
            a,
            b,
            calib=calib,
            samples=samples,
            shape=shape,
            target=target or "host",
            threshold_db=threshold,
            seed=seed or 0,
            progress=progress,
        )
    if screen.as_json:
        screen.data(asdict(found))
        return
    numbers = (Column("cosine", True), Column("SQNR dB", True), Column("max difference", True))
    screen.table((Column("output"), *numbers), [(name, *_numbers(one)) for name, one in found.outputs.items()])
    if bisect:
        screen.line(parted_sentence(found))
        return
    rows = [(layer.value, layer.node, layer.op, *_numbers(layer.fidelity)) for layer in found.layers]
    screen.table((Column("value"), Column("layer"), Column("op"), *numbers), rows)
    screen.line(f"{len(found.layers)} values in both, {found.samples} {found.source} samples")


def parted_sentence(found: Comparison) -> str:
    """Where two models part, in one sentence."""
    layer = found.parted
    if layer is None:
        return f"The two do not part: all {len(found.layers)} shared values stay above {found.threshold_db:g} dB."
    return (
        f"They part at layer '{layer.node}' ({layer.op}), value '{layer.value}': "
        f"{layer.fidelity.sqnr_db:.1f} dB, below {found.threshold_db:g} dB."
    )


def _numbers(fidelity: OutputFidelity) -> tuple[str, str, str]:
    return f"{fidelity.cosine:.6f}", f"{fidelity.sqnr_db:.1f}", f"{fidelity.max_abs:.3g}"


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="A [B ...]")
@parameters.calib
@parameters.shape
@parameters.target
@parameters.seed
@click.option("--seconds", type=float, default=2.0, show_default=True, help="Time for each.")
@parameters.with_screen
def bench(
    screen: Screen,
    models: tuple[str, ...],
    calib: str | None,
    shape: Shape,
    target: str | None,
    seed: int | None,
    seconds: float,
) -> None:
    """Measure latency and memory of models and artifacts, in alternating blocks."""
    with screen.progress() as progress:
        found = measure(
            [Path(model) for model in models],
            calib=calib,
            shape=shape,
            target=target or "host",
            seconds=seconds,
            seed=seed or 0,
            progress=progress,
        )
    if screen.as_json:
        screen.data(asdict(found))
    titles = ("median ms", "p90 ms", "runs", "speed", "MB on disk", "peak MB")
    screen.table((Column("model"), *(Column(title, True) for title in titles)), _bench_rows(found))
    screen.line(f"{found.threads} threads, {found.source} inputs")


def _bench_rows(found: Bench) -> list[tuple[str, ...]]:
    return [
        (
            row.path,
            f"{row.latency.median_ms:.3f}",
            f"{row.latency.p90_ms:.3f}",
            str(row.latency.n),
            f"{row.speedup:.2f}x",
            "-" if row.bytes is None else f"{row.bytes / 1e6:.3f}",
            "-" if row.peak_mb is None else f"{row.peak_mb:.0f}",
        )
        for row in found.rows
    ]
