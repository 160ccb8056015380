"""Float formats that a runtime takes as a hint for all of a model's float layers (OpenVINO).

One site with the choice is enough: the hint cannot be given for a part. The graph stays as it is, so the outcome
names no change; the mark is in the model's metadata (core/float_format.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from lwc.compiler.core.float_format import float_format, mark_float_format
from lwc.compiler.core.pass_ import Outcome, Skip
from lwc.compiler.core.plan import Site


def mark_for(sites: Iterable[Site], name: str, model: ir.Model) -> Outcome:
    """Mark the model for the format of this name if any of the sites is there; a model has one format at most."""
    nodes = {node.name for node in model.graph}
    skipped = []
    for site in sites:
        known = float_format(model)
        if site.name not in nodes:
            skipped.append(Skip(site, "the main graph has no node of this name"))
        elif known not in ("", name):
            skipped.append(Skip(site, f"the whole model runs in {known} already"))
        else:
            mark_float_format(model, name)
    return Outcome(skipped=tuple(skipped))
