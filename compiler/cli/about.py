"""lwc passes, targets, doctor, report, view: what there is, what works, and pictures of it."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import asdict
from pathlib import Path

import click

from lwc import passes as catalogue
from lwc.compiler.cli import parameters
from lwc.compiler.cli.screen import Column, Screen
from lwc.compiler.core.artifact import PAGE, Artifact
from lwc.compiler.core.errors import BadInput, MissingDependency
from lwc.compiler.core.pass_ import Pass
from lwc.compiler.core.target import NAMED, host
from lwc.compiler.doctor import doctor as diagnose
from lwc.compiler.sources import MODEL_FILE
from lwc.passes.precision import PRECISION_PASSES


@click.command()
@parameters.with_screen
def passes(screen: Screen) -> None:
    """List the passes, in the order they run."""
    stages = {"canonicalize": catalogue.CANONICALIZE, "fuse": catalogue.FUSE, "precision": PRECISION_PASSES}
    lines = dict.fromkeys((stage, step.name, _summary(step)) for stage, steps in stages.items() for step in steps)
    columns = ("stage", "name", "summary")
    if screen.as_json:
        screen.data({"passes": [dict(zip(columns, line, strict=True)) for line in lines]})
    screen.table([Column(title) for title in columns], list(lines))


def _summary(step: Pass) -> str:
    return (step.__doc__ or "").strip().partition("\n")[0]


@click.command()
@parameters.with_screen
def targets(screen: Screen) -> None:
    """List the targets."""
    known = [host(), *NAMED.values()]
    if screen.as_json:
        screen.data({"targets": [asdict(one) for one in known]})
    columns = [Column(title) for title in ("target", "device", "architecture", "choices", "features")]
    rows = [(one.name, one.device, one.arch, " ".join(one.choices), " ".join(sorted(one.features))) for one in known]
    screen.table(columns, rows)


@click.command()
@parameters.with_screen
def doctor(screen: Screen) -> None:
    """Tell what works on this machine, and how to get the rest."""
    checks = diagnose()
    if screen.as_json:
        screen.data({"checks": [asdict(check) for check in checks]})
    columns = [Column(title) for title in ("", "what", "found", "next step")]
    screen.table(columns, [(check.state, check.name, check.detail, check.hint) for check in checks])


@click.command()
@click.argument("artifact")
@click.option("--no-browser", is_flag=True, help="Only say where the page is.")
@parameters.with_screen
def report(screen: Screen, artifact: str, no_browser: bool) -> None:
    """Open the report page of ARTIFACT."""
    opened = Artifact.open(artifact)
    if screen.as_json:
        screen.data(opened.report.to_dict())
        return
    page = (opened.folder / PAGE).absolute()
    screen.line(str(page))
    if not no_browser and _has_desktop():
        webbrowser.open(page.as_uri())


@click.command()
@click.argument("model")
@parameters.with_screen
def view(screen: Screen, model: str) -> None:
    """Show the graph of MODEL (or an artifact) in Netron."""
    path = Path(model)
    if not path.exists():
        raise BadInput(f"There is no '{model}' to show.")
    if path.is_dir():
        path = Artifact.open(path).folder / MODEL_FILE
    try:
        import netron
    except ImportError as error:
        raise MissingDependency(
            "lwc view needs the package 'netron', which is not installed.", "Run: pip install 'lwc-compiler[view]'"
        ) from error
    address, port = netron.start(str(path), browse=_has_desktop())
    if screen.as_json:
        screen.data({"address": address, "port": port})
    screen.line(f"Netron shows {path} at http://{address}:{port}; Ctrl-C ends it.")
    netron.wait()


def _has_desktop() -> bool:
    """Without one, webbrowser would start a text browser in this terminal, or nothing."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
