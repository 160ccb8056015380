"""Architectures of `transformers` as ONNX files, 30 % of every coupled group of channels removed from each.

    python tests/benchmarks/coverage_pruning.py [--filter REGEX] [--share 0.3] [--singles 4] [--dynamic] [--seed 0]
        [--folder DIR] [--out FILE] [--markdown FILE] [--limit 120] [--reasons]

Weights are random, sizes small: see lwc.models.architectures. Per model: canonicalize as `lwc compile` does, find
groups, remove channels drawn at random from all of them in one plan (round down; at least one stays), save, check, run
in ONNX Runtime. `wrong` is decided by masked.py: the original in which what left is in no sum must give the same
outputs, for all groups together and for --singles groups by themselves with half of their channels gone.

good     valid, fewer parameters, runs, right           refused  no group that can lose a channel
wrong    the outputs are not the masked original's      failed   lwc raises, or the file is invalid or does not run
blind    checks that could not have failed: the masked original gives what the original gives, within the tolerance
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from masked import masked

from lwc.compiler.analysis.channels import Channels, Group, find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.analysis.sites import macs
from lwc.compiler.cli.screen import Bars
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Pruned
from lwc.compiler.core.target import host
from lwc.compiler.prepare import clean_model
from lwc.compiler.testing import DEEP_FP32, disagreement, run_onnxruntime
from lwc.models import architectures
from lwc.passes.sparsity import SPARSITY_PASSES

Removed = Mapping[Any, Sequence[int]]


@dataclass
class Row:
    """One architecture. share: of its parameters that lie on a group;  seconds: of the analysis

    checks: comparisons with a masked original;  blind: of those, how many could not have failed
    """

    name: str
    verdict: str = "failed"
    reason: str = ""
    nodes: int = 0
    groups: int = 0
    inexact: int = 0
    heads: int = 0
    share: float = 0.0
    parameters: tuple[int, int] = (0, 0)
    macs: tuple[int, int] = (0, 0)
    checks: int = 0
    blind: int = 0
    seconds: float = 0.0
    refusals: tuple[str, ...] = ()

    def __str__(self) -> str:
        pairs = (self.parameters, self.macs)
        fewer = [f"{100 * (1 - after / before):.0f} %" if before else "-" for before, after in pairs]
        cells = (self.nodes, self.groups, self.heads, f"{100 * self.share:.0f} %", *fewer, self.checks, self.verdict)
        return f"| {self.name} | " + " | ".join(str(cell) for cell in cells) + f" | {self.reason} |"


COLUMNS = "model, nodes, groups, of heads, parameters in groups, fewer parameters, fewer MACs, checks, verdict, reason"


def measure(name: str, args: argparse.Namespace) -> Row:
    """Prune one model and compare. Errors of lwc, of the checker and of ONNX Runtime are the row's reason."""
    row = Row(name)
    try:
        clean, _ = clean_model(Model.open(architectures.path(name, args.folder, args.dynamic)), host())
        start = time.perf_counter()
        channels = find_channels(clean.ir)
        row.seconds = time.perf_counter() - start
        _describe(row, clean.ir, channels)
        if channels.groups:
            _prune(row, clean, channels, args)
        else:
            row.verdict, row.reason = "refused", "no group"
    except Exception as error:  # whatever is raised, by whomever, is the result
        row.reason = f"{row.reason} {type(error).__name__}: {' '.join(str(error).split())[:300]}".strip()
    return row


def _describe(row: Row, model: ir.Model, channels: Channels) -> None:
    sliced = {slot.value for group in channels.groups for slot in group.constants}
    sizes = {name: _size(value) for name, value in model.graph.initializers.items() if _is_float(value)}
    row.nodes, row.groups = len(model.graph), len(channels.groups)
    row.inexact = sum(not group.exact for group in channels.groups)
    row.heads = sum(group.heads for group in channels.groups)
    row.share = sum(size for name, size in sizes.items() if name in sliced) / max(sum(sizes.values()), 1)
    row.refusals = tuple(
        f"{item.value} axis {item.axis} ({item.size}): {item.operator} '{item.node}': {item.reason}"
        for item in channels.refused
    )


def _prune(row: Row, clean: Model, channels: Channels, args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed)
    feeds = architectures.get(row.name).feeds()
    original = run_onnxruntime(clean.to_proto(), feeds)
    everything = {group.site: _drawn(rng, group, args.share) for group in channels.groups}
    pruned = _applied(clean, everything)
    with tempfile.TemporaryDirectory() as folder:
        pruned.save(Path(folder) / "pruned.onnx")
        onnx.checker.check_model(str(Path(folder) / "pruned.onnx"), full_check=True)
    row.parameters, row.macs = ((count(clean.ir), count(pruned.ir)) for count in (_parameters, _macs))
    _compare(row, clean, channels, everything, pruned, feeds, original)
    chosen = rng.permutation(len(channels.groups))[: args.singles]
    for group in (channels.groups[k] for k in chosen):
        single = {group.site: _drawn(rng, group, 0.5)}
        _compare(row, clean, channels, single, _applied(clean, single), feeds, original)
    if row.verdict != "wrong":
        smaller = row.parameters[1] < row.parameters[0]
        row.verdict, row.reason = ("good", "") if smaller else ("refused", "groups too small to lose a channel")


def _drawn(rng: np.random.Generator, group: Group, share: float) -> tuple[int, ...]:
    count = min(int(share * group.size), group.size - 1)
    return tuple(int(channel) for channel in sorted(rng.permutation(group.size)[:count]))


def _applied(clean: Model, removed: Removed) -> Model:
    """A fork without these channels, its shapes inferred anew."""
    fork = clean.fork()
    plan = Plan({site: Pruned(tuple(channels)) for site, channels in removed.items() if channels})
    for sparsity_pass in SPARSITY_PASSES:
        outcome = sparsity_pass.run(fork.ir, PassContext(host(), plan))
        if outcome.skipped:
            skip = outcome.skipped[0]
            raise ValueError(f"skipped {skip.site.name}: {skip.reason}")
    infer_shapes(fork.ir)
    return fork


def _compare(
    row: Row, clean: Model, channels: Channels, removed: Removed, pruned: Model, feeds: Any, original: Sequence[Any]
) -> None:
    """Add one comparison to the row."""
    if not any(removed.values()):
        return
    row.reason = "all groups:" if len(removed) > 1 else f"{next(iter(removed)).name}:"
    expected = run_onnxruntime(ir.to_proto(masked(clean.ir, channels.keep(removed))), feeds)
    found = run_onnxruntime(pruned.to_proto(), feeds)
    row.checks += 1
    row.blind += not any(disagreement(a, b, DEEP_FP32) for a, b in zip(original, expected, strict=True))
    reasons = [reason for a, b in zip(expected, found, strict=True) if (reason := disagreement(a, b, DEEP_FP32))]
    if reasons:
        row.verdict = "wrong"
        raise ValueError(reasons[0])


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _size(value: ir.Value) -> int:
    return int(np.prod(value.shape.numpy())) if value.shape is not None else 0


def _parameters(model: ir.Model) -> int:
    return sum(_size(value) for value in model.graph.initializers.values() if _is_float(value))


def _macs(model: ir.Model) -> int:
    return sum(macs(node) for node in model.graph)


def isolated(name: str, args: argparse.Namespace) -> Row:
    """The row from a forked process, so that a crash or an endless loop takes nothing else along."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def work(pipe: Connection) -> None:
        pipe.send(measure(name, args))

    child = context.Process(target=work, args=(there,))
    child.start()
    there.close()
    try:
        row: Row = here.recv() if here.poll(args.limit) else Row(name, reason=f"over {args.limit} s")
    except EOFError:
        child.join()
        row = Row(name, reason=f"crash: exit status {child.exitcode}")
    child.kill()
    child.join()
    return row


def table(rows: Sequence[Row]) -> str:
    """Counts, medians and one line per model, as Markdown."""
    counts = Counter(row.verdict for row in rows)
    good = [row for row in rows if row.verdict == "good"]
    lines = [
        f"{len(rows)} models: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()),
        f"{100 * len(good) / max(len(rows), 1):.1f} % are valid, smaller, run and are right.",
        f"{sum(row.checks for row in rows)} comparisons with masked originals, {sum(row.blind for row in rows)} blind; "
        f"{sum(row.groups for row in rows)} groups, {sum(row.heads for row in rows)} of heads.",
    ]
    if good:
        parameters = _percent([1 - row.parameters[1] / row.parameters[0] for row in good])
        multiplications = _percent([1 - row.macs[1] / row.macs[0] for row in good if row.macs[0]])
        lines.append(
            f"Medians of the good: {parameters} fewer parameters, {multiplications} fewer MACs; "
            f"{_percent([row.share for row in good])} of the parameters lie in groups."
        )
    columns = COLUMNS.split(", ")
    header = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*lines, "", *header, *(str(row) for row in rows)]) + "\n"


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * statistics.median(shares):.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", help="regular expression that a model's name must contain")
    parser.add_argument("--share", type=float, default=0.3, help="of each group's channels that leave")
    parser.add_argument("--singles", type=int, default=4, help="groups per model that are also removed by themselves")
    parser.add_argument("--seed", type=int, default=0, help="of the channels that are drawn")
    parser.add_argument("--folder", type=Path, help="where exported models are kept, by default lwc's cache")
    parser.add_argument("--dynamic", action="store_true", help="models whose batch is open")
    parser.add_argument("--limit", type=int, default=120, help="seconds for one model, its export apart")
    parser.add_argument("--reasons", action="store_true", help="print what was refused, and why")
    parser.add_argument("--out", type=Path, help="write rows as JSON")
    parser.add_argument("--markdown", type=Path, help="write the table")
    args = parser.parse_args()
    names = [name for name in architectures.names() if re.search(args.filter, name)]
    rows = _run(names, args)
    print(table(rows))
    if args.reasons:
        print("\n".join(f"{row.name}: {line}" for row in rows for line in row.refusals))
    if args.out:
        args.out.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if args.markdown:
        args.markdown.write_text(table(rows))


def _run(names: Sequence[str], args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    with Bars() as bars:
        bars.stage("models", len(names))
        for name in names:
            try:
                architectures.path(name, args.folder, args.dynamic)  # before the fork, whose limit is for lwc
                rows.append(isolated(name, args))
            except LwcError as error:
                rows.append(Row(name, "not exported", str(error)))
            bars.advance()
            if rows[-1].verdict != "good":
                bars.note(f"{name}: {rows[-1].verdict}: {rows[-1].reason}")
    return rows


if __name__ == "__main__":
    main()
