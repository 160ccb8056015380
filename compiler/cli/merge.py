"""lwc merge: one model out of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from lwc.compiler.cli import parameters
from lwc.compiler.cli.screen import Column, Screen
from lwc.compiler.merging.align import DoesNotMatch, Missing
from lwc.compiler.merging.curve import Curve, sparkline
from lwc.compiler.merging.merge import Merged
from lwc.compiler.merging.merge import merge as merge_models
from lwc.compiler.merging.methods import METHODS


def numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Numbers between commas."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"'{text}' is no list of numbers, such as 0.3,0.7.") from error


def name_or_number(context: click.Context, parameter: click.Parameter, text: str | None) -> str | float | None:
    """A number where it is one."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="A [B ...]")
@click.option("-o", "--out", required=True, metavar="OUT.onnx", help="The merged model.")
@click.option("--method", metavar="M", help=f"{', '.join(METHODS)} [default: linear].")
@click.option("--base", metavar="BASE.onnx", help="What the models were trained from.")
@click.option("--weights", metavar="W,W ...", callback=numbers, help="One of each model [default: equal].")
@click.option("--density", metavar="D", callback=numbers, help="Share of the changes that stay, one or one of each.")
@click.option("--scale", type=float, metavar="S", help="Of what is added to the base [default: 1].")
@click.option(
    "--rescale", metavar="R", callback=name_or_number,
    help="What makes up for what DARE drops: l1 (default), density, none, or a number q to divide by.",
)  # fmt: skip
@click.option("--normalize/--no-normalize", default=None, help="Divide by the weights that went in (ties does).")
@click.option("--shrink", type=float, metavar="R", help="Gram matrices, off their diagonal (regmean) [default: 0.9].")
@click.option("--in-order", is_flag=True, default=None, help="Solve layers one after the other (regmean).")
@click.option("--learned", is_flag=True, default=None, help="Look for the weights that score most (soup).")
@click.option("--recipe", metavar="FILE.toml", help="The same settings from a file, and others by layer; flags win.")
@click.option("--partial", is_flag=True, default=None, help="Keep what has no counterpart, instead of refusing.")
@click.option("--calib", multiple=True, metavar="PATH", help="Samples: one for all models, or one of each.")
@click.option("--metric", metavar="NAME|module:attr", help="What methods that look at data make best.")
@click.option("--lora", multiple=True, metavar="ADAPTER", help="Fold this adapter of PEFT (file or folder) into A.")
@parameters.seed
@parameters.with_screen
def merge(
    screen: Screen, models: tuple[str, ...], out: str, lora: tuple[str, ...], calib: tuple[str, ...], **flags: Any
) -> None:
    """Merge models of one architecture into one, or fold adapters into one."""
    try:
        with screen.progress() as progress:
            found = merge_models(models, out, calib=calib, lora=lora, progress=progress, **flags)
    except DoesNotMatch as error:
        screen.table(*_missing_table(error.missing))
        raise
    _show(screen, found)


def _show(screen: Screen, found: Merged) -> None:
    if screen.as_json:
        screen.data({key: value for key, value in _plain(found).items() if key != "model"})
        return
    titles = ("parameter", "shape", "role", "merged by", "called elsewhere")
    rows = [
        (line.name, _shape(line.shape), line.role, line.method, _elsewhere(line.names)) for line in found.lines
    ]
    screen.table([Column(title) for title in titles], rows)
    if found.missing:
        screen.table(*_missing_table(found.missing))
    for curve in found.curves:
        screen.table(*_curve_table(curve))
        for name, values in curve.lines.items():
            screen.line(f"{name}: {sparkline(values)} ({min(values):.4f} to {max(values):.4f})")
    for note in found.notes:
        screen.line(note)
    screen.line(
        f"{found.out}: {len(found.lines)} parameters of {len(found.models)} models merged by {found.method}, "
        f"{found.bytes / 1e6:.1f} MB in {found.seconds:.1f} s"
    )


def _plain(found: Merged) -> dict[str, Any]:
    """The report as JSON values, the model left out: copying it would make its tensors."""
    values = {name: getattr(found, name) for name in found.__dataclass_fields__ if name != "model"}
    values["lines"] = [asdict(line) for line in found.lines]
    values["missing"] = [asdict(one) for one in found.missing]
    values["curves"] = [asdict(one) for one in found.curves]
    return values


def _curve_table(curve: Curve) -> tuple[list[Column], list[tuple[str, ...]]]:
    titles = [Column(curve.over, right=True), *(Column(name, right=True) for name in curve.lines), Column("")]
    rows = [
        (f"{x:.2f}", *(f"{values[k]:.4f}" for values in curve.lines.values()), "taken" if k == curve.chosen else "")
        for k, x in enumerate(curve.x)
    ]
    return titles, rows


def _missing_table(missing: Sequence[Missing]) -> tuple[list[Column], list[tuple[str, ...]]]:
    titles = ("without counterpart", "shape", "of", "in", "because")
    rows: list[tuple[str, ...]] = [
        (one.tensor.name, _shape(one.tensor.shape), one.model, one.other, one.tensor.reason) for one in missing
    ]
    return [Column(title) for title in titles], rows


def _elsewhere(names: tuple[str, ...]) -> str:
    """The other names it goes by."""
    return ", ".join(name for name in dict.fromkeys(names[1:]) if name != names[0])


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return ""
    return "x".join(map(str, shape)) or "scalar"
