"""The ONNX Runtime backend: sessions from memory, deployables in a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import onnx.parser
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from lwc.backends.onnxruntime.profile import Profile, read_profile
from lwc.backends.onnxruntime.session import OrtSession, create, session_options
from lwc.backends.serving import (
    LARGE_BYTES,
    MODEL_FILE,
    STANDARD_DOMAINS,
    blame,
    handed_over,
    referred,
    refuse_foreign,
    tapped,
)
from lwc.compiler.core.backend import BuildOptions, Feeds, Session, Support
from lwc.compiler.core.errors import BadInput, LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.scratch import temporary_folder
from lwc.compiler.core.target import BYTE_OPS, Target, host

log = logging.getLogger(__name__)

_NO_PREPACKING = "session.disable_prepacking"
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_BYTE_PROBE = """<ir_version: 8, opset_import: ["" : 17]>
g (uint8[1, 4, 2, 2] x) => (uint8[a, b, c, d] y) {{ y = {body} }}"""


class OnnxRuntime:
    """ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    may_crash = False
    fixes_shapes = False

    def __init__(self, *, in_turns: bool = False) -> None:
        self._in_turns = in_turns

    def in_turns(self) -> OnnxRuntime:
        """The same for sessions that run in turns with another runtime's, and leave the cores to it when they end."""
        return OnnxRuntime(in_turns=True)

    def version(self) -> str:
        return f"onnxruntime {ort.__version__}"

    def narrow(self, target: Target) -> Target:
        """Without the operators on bytes that this version has no kernels for (some before 1.24)."""
        return replace(target, byte_ops=target.byte_ops & runnable_byte_ops())

    def supports(self, model: Model, target: Target) -> Support:
        """Refused: nodes of other domains that ONNX Runtime has no schema for; then whatever loading names."""
        refused = {
            node.name or node.op_type: f"ONNX Runtime knows no operator '{node.domain}:{node.op_type}'"
            for node in model.nodes()
            if node.domain not in STANDARD_DOMAINS
            and node.op_identifier() not in model.ir.functions
            and (node.domain, node.op_type) not in _operators()
        }
        if refused:
            return Support(refused)
        options = session_options(target)
        options.add_session_config_entry(_NO_PREPACKING, "1")  # weights of a session that never runs stay unread
        try:
            self._session(model, options)
        except LwcError as error:
            return Support(blame(model, error))
        return Support()

    def session(
        self, model: Model, target: Target, outputs: Sequence[str] = (), *, lean: bool = False
    ) -> Session:
        """Run `model` from memory; `outputs` names values to return besides the graph's own outputs.

        lean: without an arena, which would keep what the largest run took, and with threads that sleep between
            runs: whoever does not time them computes with what they gave
        Raises UnsupportedOperator, InvalidGraph, BadInput.
        """
        options = session_options(target, in_turns=self._in_turns or lean)
        options.enable_cpu_mem_arena = not lean
        return self._session(tapped(model, outputs), options)

    def profile(self, model: Model, target: Target, feeds: Sequence[Feeds], runs: int) -> dict[str, float]:
        """Median milliseconds per run in each executed node, by the name of a node of `model`."""
        return self.detailed_profile(model, target, feeds, runs).milliseconds

    def detailed_profile(self, model: Model, target: Target, feeds: Sequence[Feeds], runs: int) -> Profile:
        """The same with the operator that ran under each name.

        feeds are taken in turn, after two runs that are not counted.
        """
        with temporary_folder("profile") as folder:
            options = session_options(target)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "ort")
            session = self._session(model, options)
            for k in range(runs + 2):
                session.run(feeds[k % len(feeds)])
            return read_profile(Path(session.end_profiling()), skip_runs=2, model=model.ir)

    def build(self, model: Model, target: Target, options: BuildOptions) -> tuple[str, ...]:
        """Write model.onnx, weights beside it when asked or large. Raises UnsupportedOperator if not portable.

        ONNX Runtime maps weights that lie beside the model; those within it are in memory twice while it loads.
        """
        if options.portable:
            refuse_foreign(model)
        beside = options.external_data or model.weight_bytes() >= LARGE_BYTES
        model.save(options.folder / MODEL_FILE, external_data=beside)
        return tuple(sorted(path.name for path in options.folder.iterdir() if path.name.startswith(MODEL_FILE)))

    def load(self, folder: Path, target: Target) -> Session:
        """Open what `build` wrote. Raises BadInput when it is not there."""
        path = folder / MODEL_FILE
        if not path.is_file():
            raise BadInput(f"{folder}: no {MODEL_FILE} in it.")
        options = session_options(target, in_turns=self._in_turns)
        return OrtSession(create(str(path), options, folder.name), folder.name)

    def _session(self, model: Model, options: ort.SessionOptions) -> OrtSession:
        if model.weight_bytes() >= LARGE_BYTES:
            with referred(model) as (content, folder):
                options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder))
                return OrtSession(create(content, options, model.name), model.name)
        with handed_over(model) as source:
            given = source if isinstance(source, bytes) else str(source)
            return OrtSession(create(given, options, model.name), model.name)


@lru_cache(maxsize=1)
def runnable_byte_ops() -> frozenset[str]:
    """The operators of BYTE_OPS that a session takes on uint8."""
    return frozenset(op for op in BYTE_OPS if _runs_on_bytes(op))


def _runs_on_bytes(op: str) -> bool:
    text = _BYTE_PROBE.format(body="Max (x, x)" if op == "Max" else f"{op} <blocksize = 2> (x)")
    try:
        ort.InferenceSession(
            onnx.parser.parse_model(text).SerializeToString(), session_options(host()), ["CPUExecutionProvider"]
        )
    except Exception as error:  # NotImplemented is no public class of every version
        log.debug("no %s on bytes: %s", op, error)
        return False
    return True


@lru_cache(maxsize=1)
def _operators() -> frozenset[tuple[str, str]]:
    return frozenset((schema.domain, schema.name) for schema in get_all_operator_schema())
