"""Parts that TVM can run but ONNX Runtime runs faster, by measurement."""

from __future__ import annotations

from lwc.backends.signature import Signature
from lwc.backends.tvm.chain import open_part
from lwc.backends.tvm.cut import Part
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.processor import standing_in
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import Target
from lwc.compiler.measure import latency
from lwc.compiler.synthetic import SyntheticSamples

MARGIN = 1.1  # of ONNX Runtime's latency: less is noise
SECONDS = 0.3  # for each runtime

_known: dict[tuple[str, Machine], str] = {}


def slower(model: Model, target: Target) -> str:
    """How much slower TVM runs a part that it can compile than ONNX Runtime does; empty where it is not.

    model: of fixed shapes. Made-up data; what such data does not go through stays with TVM, and so does all that this
    machine cannot run.
    """
    if standing_in(target) != target:
        return ""
    key = (model.digest(), Machine.of(target))
    if key not in _known:
        _known[key] = _measured(model, target)
    return _known[key]


def _measured(model: Model, target: Target) -> str:
    sessions = [open_part(Part(model, taken), target) for taken in (True, False)]
    try:
        feeds = SyntheticSamples.plan(Signature.of(model).inputs, model, 1, 0, {}, sessions[1].run)[0]
        ours, other = (found.median_ms for found in latency(sessions, feeds, seconds=SECONDS, min_blocks=2))
    except LwcError:
        return ""
    if ours <= other * MARGIN:
        return ""
    return f"ONNX Runtime runs the part around it faster ({other:.3g} ms against TVM's {ours:.3g} ms)."
