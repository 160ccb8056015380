"""TVM's exceptions as ours: the first sentence of what it says, without the stack of its own."""

from __future__ import annotations

import re

from lwc.compiler.core.errors import BadInput, LwcError

_POSITION = re.compile(r"^(\S*(Error|Exception): )?(\(\S*:\d+\) )?(\w+Error: )?(Check failed: \(.*?\) is false: ?)?")


def convert(error: Exception, model: str) -> LwcError:
    """The error of ours that says what `error` says about `model`."""
    return error if isinstance(error, LwcError) else BadInput(f"{model}: TVM failed: {plain(error)}")


def plain(error: Exception) -> str:
    """The first line of the message, without source positions."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return _POSITION.sub("", lines[0]) or lines[0] if lines else type(error).__name__
