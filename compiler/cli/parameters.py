"""Options of the command line that several commands share."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

import click

from lwc.compiler.cli.screen import Screen
from lwc.compiler.options import parse_shape

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def stacked(*decorators: Decorator) -> Decorator:
    """Several decorators as one, the first on top."""

    def apply(function: Command) -> Command:
        return functools.reduce(lambda inner, decorator: decorator(inner), reversed(decorators), function)

    return apply


def with_screen(function: Command) -> Command:
    """Add --json, -v and -q; the command gets a Screen as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON alone on stdout.")
    @click.option("-v", "--verbose", count=True, help="Log more (-vv: everything) and show tracebacks of bugs.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress.")
    @functools.wraps(function)
    def command(*args: Any, as_json: bool, verbose: int, quiet: bool, **options: Any) -> Any:
        level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s", force=True)
        logging.getLogger("lwc").setLevel(logging.ERROR if quiet else level)
        return function(Screen(as_json, quiet), *args, **options)

    return command


def shapes(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any] | None:
    """--shape NAME=1,3,224,224, as often as there are inputs."""
    return dict(parse_shape(text) for text in values) or None


model = click.argument("model")
out = click.option("-o", "--out", metavar="OUT", help="Folder of the artifact [default: MODEL.lwc].")
target = click.option("--target", metavar="NAME|FILE.toml", help="Where the model will run [default: host].")
calib = click.option(
    "--calib",
    metavar="PATH",
    help="Samples: .npz, a folder of .npz, or module:function. Absent: synthetic ones, and the report says so.",
)
shape = click.option(
    "--shape", multiple=True, metavar="NAME=1,3,224,224", callback=shapes, help="Fix the shape of a dynamic input."
)
seed = click.option("--seed", type=int, metavar="N", help="Of everything random [default: 0].")

# What a search for a plan depends on.
search_options = stacked(
    target,
    click.option("--backend", metavar="auto|ort|tvm|openvino", help="What to build with [default: auto]."),
    calib,
    click.option("--samples", type=int, metavar="N", help="Use at most N samples."),
    click.option(
        "--metric",
        metavar="NAME|module:attr",
        help="fidelity (default; needs no labels), top1, cosine, mse, or a function or class of yours.",
    ),
    click.option("--max-drop", type=float, metavar="D", help="The metric may fall by D, absolute [default: 0.01]."),
    click.option(
        "--precision",
        metavar="P",
        help="auto (default), fp32, fp16, bf16, fp8, int8, int8-dynamic, w8 or w4.",
    ),
    click.option("--recipe", metavar="FILE.toml", help="The same options from a file; flags win."),
    shape,
    click.option("--cache", metavar="DIR", help="Where statistics and costs are kept between runs."),
    click.option("--no-cache", is_flag=True, default=None, help="Keep nothing between runs."),
    seed,
    click.option("--workers", type=int, metavar="N", help="Measure losses in N processes [default: 1]."),
    click.option("--scheduler", metavar="ADDRESS", help="Measure losses on a Dask cluster."),
    click.option("--max-memory", type=float, metavar="GB", help="For statistics and activations [default: 0.5]."),
)

compile_options = stacked(
    search_options,
    click.option("--objective", metavar="latency|size|throughput", help="What to make best [default: latency]."),
    click.option("--max-latency", type=float, metavar="MS", help="Hard budget of one run's median."),
    click.option("--max-size", type=float, metavar="MB", help="Hard budget of the files the runtime needs."),
    click.option("--sparsity", metavar="S", help="none (default), auto, channels:RATIO, 2:4 or block:RxC."),
    click.option(
        "--share", type=float, metavar="BOUND",
        help="Store weights once that differ by so little, relative to their greatest value [default: equal ones].",
    ),
    click.option(
        "--best-effort", is_flag=True, default=None, help="Write the best found even where a budget can't be held."
    ),
    click.option(
        "--pareto", is_flag=True, default=None, help="Write every plan no other beats in time, size and accuracy, too."
    ),
    click.option("--tune", type=float, metavar="MINUTES", help="Time for kernel tuning [default: 0]."),
    click.option("--recover", type=float, metavar="MINUTES", help="Teach a pruned model what the original answers."),
    click.option("--tuner", metavar="rpc://HOST:PORT/KEY", help="Tune on the devices of TVM's RPC tracker there."),
    click.option("--portable", is_flag=True, default=None, help="Only operators of the standard ONNX domain."),
    click.option("--plan", metavar="plan.json", help="Apply this plan, search nothing."),
)
