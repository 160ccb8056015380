"""lwc as a user starts it: in a process of its own, from nothing, on ONNX Runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def compiled(model: Path, out: Path, *options: object) -> dict[str, Any]:
    """The report of `lwc compile` with these options, which goes on to say on the screen what it does."""
    command = [sys.executable, "-m", "lwc", "compile", model, "--backend", "ort", "--no-cache", "--json", "-o", out]
    done = subprocess.run([str(part) for part in (*command, *options)], stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report
