"""What commands show: tables and sentences on stdout, progress on stderr, JSON instead when asked."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from lwc.compiler.core.errors import BudgetNotHeld
from lwc.compiler.core.plain import finite
from lwc.compiler.core.progress import Progress, Silent

REFRESHES_PER_SECOND = 3  # more would disturb what is being measured


@dataclass(frozen=True)
class Column:
    """One column of a table; numbers stand at the right."""

    title: str
    right: bool = False


@dataclass(frozen=True)
class Screen:
    """Where one command writes. With as_json, stdout holds that JSON value alone."""

    as_json: bool = False
    quiet: bool = False

    def data(self, value: Any) -> None:
        """Print a JSON value; infinities and NaN become null."""
        write(sys.stdout, json.dumps(finite(value), indent=1, allow_nan=False) + "\n")

    def line(self, text: str = "") -> None:
        """Print one line, unless stdout is for JSON."""
        if not self.as_json:
            write(sys.stdout, text + "\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Print a table: drawn on a terminal, aligned columns elsewhere. Unless stdout is for JSON."""
        if not self.as_json:
            write(sys.stdout, _drawn(columns, rows) if sys.stdout.isatty() else aligned(columns, rows))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A listener for long work: bars on a terminal, lines elsewhere, nothing when quiet."""
        if self.quiet:
            yield Silent()
        elif sys.stderr.isatty():
            with Bars() as bars:
                yield bars
        else:
            yield Lines()


class BestEffort(BudgetNotHeld):
    """A budget was not held, and --best-effort wrote the best found; the report is on stdout already."""


class Lines:
    """Progress as one line per stage and note."""

    def stage(self, name: str, total: int | None = None) -> None:
        write(sys.stderr, f"{name} ...\n")

    def advance(self, n: int = 1) -> None:
        """Steps are not shown."""

    def note(self, text: str) -> None:
        write(sys.stderr, f"note: {text}\n")


class Bars:
    """Progress as bars that are gone when the work is done."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            refresh_per_second=REFRESHES_PER_SECOND,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(escape(name), total=total)

    def advance(self, n: int = 1) -> None:
        if self._task is not None:
            self._progress.advance(self._task, n)

    def note(self, text: str) -> None:
        self._console.print(f"note: {escape(text)}", highlight=False)


def write(stream: TextIO, text: str) -> None:
    """Write and flush; a reader that has gone away is no error (`lwc inspect MODEL | head`)."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """The table as text: columns two blanks apart, nothing cut."""
    cells = [[column.title for column in columns], *rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(columns))]
    lines = []
    for row in cells:
        padded = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines) + "\n"


def _drawn(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    table = Table()
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(text) for text in row))
    text = io.StringIO()
    Console(file=text, force_terminal=True, width=Console().width).print(table)
    return text.getvalue()
