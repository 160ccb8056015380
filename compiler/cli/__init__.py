"""The command line: the only place that prints."""

from lwc.compiler.cli.app import main, run

__all__ = ["main", "run"]
