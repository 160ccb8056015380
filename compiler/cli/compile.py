"""lwc compile, demo, run: from a model to an artifact to its outputs."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from lwc.compiler.cli import parameters
from lwc.compiler.cli.screen import BestEffort, Column, Screen
from lwc.compiler.core.artifact import Artifact
from lwc.compiler.core.backend import Array, Port
from lwc.compiler.core.cache import write_aside
from lwc.compiler.core.errors import BadInput, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import find_target
from lwc.compiler.driver import broken_budget, compile_model
from lwc.compiler.options import CompileOptions, make_options
from lwc.compiler.render import size_change, verdict
from lwc.compiler.search.space import SPARSE
from lwc.compiler.sources import open_session
from lwc.models import digits

DEMO_OUT = "digits_cnn.lwc"


@click.command("compile")
@parameters.model
@parameters.out
@parameters.compile_options
@parameters.with_screen
def compile_(screen: Screen, model: str, recipe: str | None, **flags: Any) -> None:
    """Compile MODEL into an artifact: faster or smaller, within the accuracy budget, proven by measurement."""
    options = make_options(flags, Path(recipe) if recipe else None)
    _compile(screen, Model.open(model), options)


@click.command()
@parameters.out
@parameters.with_screen
def demo(screen: Screen, out: str | None) -> None:
    """Compile a small trained classifier of handwritten digits, and show what it gives."""
    options = make_options({"out": out or DEMO_OUT, "calib": "lwc.models.digits:unseen", "metric": "top1"})
    _compile(screen, Model.open(digits.path("cnn")), options)


@click.command()
@click.argument("artifact")
@click.option("--input", "input_path", required=True, metavar="in.npz", help="One array per input.")
@click.option("--output", "output_path", required=True, metavar="out.npz", help="Gets one array per output.")
@parameters.with_screen
def run(screen: Screen, artifact: str, input_path: str, output_path: str) -> None:
    """Run ARTIFACT (or a model file) once."""
    session = open_session(Path(artifact), find_target("host"))
    outputs = session.run(_read_inputs(Path(input_path), session.inputs))
    write_npz(Path(output_path), outputs)
    if screen.as_json:
        screen.data({name: {"dtype": array.dtype.name, "shape": array.shape} for name, array in outputs.items()})
    rows = [(name, array.dtype.name, str(list(array.shape))) for name, array in outputs.items()]
    screen.table((Column("output"), Column("type"), Column("shape")), rows)


def _compile(screen: Screen, model: Model, options: CompileOptions) -> None:
    with screen.progress() as progress:
        artifact = compile_model(model, options, progress)
    show_report(screen, artifact)
    report = artifact.report
    broken = broken_budget(report.accuracy, report.latency, report.size["compiled_bytes"], options)
    if broken:
        raise BestEffort(broken, f"The best found was written to '{artifact.folder}'.")


def show_report(screen: Screen, artifact: Artifact) -> None:
    """The report as JSON, or its main numbers as a table and where the rest lies."""
    report = artifact.report
    if screen.as_json:
        screen.data(report.to_dict())
        return
    rows = [
        (
            "latency, median ms",
            f"{report.latency.original.median_ms:.3f}",
            f"{report.latency.compiled.median_ms:.3f}",
            f"{report.latency.speedup:.2f}x",
        ),
        (
            f"accuracy, {report.accuracy.metric}",
            f"{report.accuracy.original:.4f}",
            f"{report.accuracy.compiled:.4f}",
            f"{0.0 - report.accuracy.drop:+.4f}",
        ),
        (
            "size, MB",
            f"{report.size['original_bytes'] / 1e6:.3f}",
            f"{report.size['compiled_bytes'] / 1e6:.3f}",
            size_change(report.size["ratio"]),
        ),
        ("peak memory, MB", *(_or_dash(report.memory[f"{which}_peak_mb"]) for which in ("original", "compiled")), ""),
    ]
    screen.table((Column(""), Column("original", True), Column("compiled", True), Column("change", True)), rows)
    screen.line("layers: " + counted(site.choice for site in report.sites if site.kind not in SPARSE))
    if sparse := [site.choice for site in report.sites if site.kind in SPARSE]:
        screen.line("may leave: " + counted(choice.partition(" ")[0] for choice in sparse))
    if report.calibration["source"] == "synthetic":
        screen.line("The samples were synthetic: give --calib to prove the accuracy on data of yours.")
    screen.line(f"{verdict(report)}.")
    screen.line(f"artifact: {artifact.folder}")
    screen.line(f"report:   {artifact.folder / 'report.html'}")


def counted(choices: Iterable[str]) -> str:
    """How many sites have each choice."""
    return ", ".join(f"{n} {choice}" for choice, n in Counter(choices).items()) or "none to decide on"


def _or_dash(number: float | None) -> str:
    return "-" if number is None else f"{number:.0f}"


def _read_inputs(path: Path, ports: Sequence[Port]) -> dict[str, Array]:
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UsageError(f"There is no file '{path}'.") from error
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise BadInput(f"'{path}' is not an .npz file of plain arrays ({error}).") from error
    return {port.name: _typed(arrays[port.name], port) for port in ports if port.name in arrays}


def _typed(array: Array, port: Port) -> Array:
    """Types that .npz does not know (bfloat16, float8) come back as raw bytes of their width."""
    if array.dtype.kind == "V" and array.dtype.itemsize == port.dtype.itemsize:
        return array.view(port.dtype)
    return array


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """An .npz written aside and renamed; any name is allowed (numpy.savez takes no array called 'file')."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, _plain_array(name, array), allow_pickle=False)
    write_aside(path, buffer.getvalue())


def _plain_array(name: str, array: object) -> Array:
    """What .npz can hold without pickling: strings as fixed-width text, no sequences or maps."""
    if not isinstance(array, np.ndarray):
        raise BadInput(
            f"Output '{name}' is a {type(array).__name__}, which .npz cannot hold.", "Use lwc.load in Python."
        )
    return array.astype(np.str_) if array.dtype == np.object_ else array
