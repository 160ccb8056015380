"""The `lwc` command: its group, what every command shares, and how errors become exit codes."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from lwc._version import __version__
from lwc.compiler.cli.screen import BestEffort, write
from lwc.compiler.core.errors import BadInput, InternalError, Interrupted, LwcError, UsageError

REPORT_BUG = (
    "This is a bug in lwc: please report it on the project's issue tracker, with what the same command says with -v."
)
FILE_ERRORS = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENOSPC, errno.EROFS}
)


# Commands by name: where they are, and their line in `lwc --help`. Each is imported when it is called.
COMMANDS = {
    "compile": ("compile:compile_", "Compile MODEL into an artifact."),
    "run": ("compile:run", "Run ARTIFACT (or a model file) once."),
    "bench": ("look:bench", "Measure latency and memory of models and artifacts."),
    "verify": ("look:verify", "Compare models or artifacts A and B on the same samples."),
    "inspect": ("look:inspect", "Show the layers of MODEL (or an artifact)."),
    "analyze": ("look:analyze", "Show what each choice would cost and lose at each layer."),
    "merge": ("merge:merge", "Merge models of one architecture into one."),
    "passes": ("about:passes", "List the passes, in the order they run."),
    "targets": ("about:targets", "List the targets."),
    "doctor": ("about:doctor", "Tell what works on this machine, and how to get the rest."),
    "report": ("about:report", "Open the report page of ARTIFACT."),
    "view": ("about:view", "Show the graph of MODEL (or an artifact) in Netron."),
    "demo": ("compile:demo", "Compile a small trained classifier of handwritten digits."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called: `lwc --help` and `lwc doctor` need no model code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _, attribute = COMMANDS[cmd_name][0].partition(":")
            self.add_command(getattr(importlib.import_module(f"lwc.compiler.cli.{module}"), attribute), cmd_name)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lwc")
def lwc() -> None:
    """The layer-wise compiler: an ONNX model in, the fastest or smallest deployable within budget out."""


def main() -> NoReturn:
    """Entry point of the console script and of `python -m lwc`."""
    signal.signal(signal.SIGTERM, _terminate)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for --calib and --metric module:attribute; installed modules come first
    code = run(sys.argv[1:])
    logging.shutdown()
    sys.exit(code)


def run(args: Sequence[str]) -> int:
    """Run one command line; returns the exit code, with every error told on stderr."""
    as_json = "--json" in args
    try:
        code = lwc.main(list(args), prog_name="lwc", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, click.Abort):
        return _tell(Interrupted("Interrupted; nothing was written."), as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        write(sys.stderr, error.format_message() + "\n")
        return 2
    except click.ClickException as error:
        return _tell(_usage(error), as_json)
    except InternalError as error:
        _trace(args)
        return _tell(InternalError(error.message, f"{error.hint} {REPORT_BUG}".strip()), as_json)
    except LwcError as error:
        return _tell(error, as_json and not isinstance(error, BestEffort))
    except OSError as error:
        if error.errno in FILE_ERRORS and error.filename is not None:
            return _tell(BadInput(f"'{error.filename}': {error.strerror}."), as_json)
        return _bug(error, args, as_json)
    except Exception as error:
        return _bug(error, args, as_json)


def _tell(error: LwcError, as_json: bool) -> int:
    write(sys.stderr, f"lwc: {error}\n")
    if as_json:
        data = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        write(sys.stdout, json.dumps(data, indent=1) + "\n")
    return error.exit_code


def _bug(error: Exception, args: Sequence[str], as_json: bool) -> int:
    _trace(args)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return _tell(InternalError(f"Unexpected {text}.", REPORT_BUG), as_json)


def _trace(args: Sequence[str]) -> None:
    if any(arg in ("-v", "-vv", "--verbose") for arg in args):
        write(sys.stderr, traceback.format_exc())


def _usage(error: click.ClickException) -> UsageError:
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "lwc"
    return UsageError(message if message.endswith((".", "?", ")")) else f"{message}.", f"See: {path} --help")


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM unwinds like Ctrl-C does, so that what was written aside is removed."""
    raise SystemExit(128 + signum)
