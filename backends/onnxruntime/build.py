"""The ONNX Runtime backend: sessions from memory, deployables in a folder."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from lwc.backends.onnxruntime.profile import Profile, read_profile
from lwc.backends.onnxruntime.session import OrtSession, create, session_options
from lwc.compiler.core.backend import BuildOptions, Feeds, Session, Support
from lwc.compiler.core.errors import BadInput, LwcError, UnsupportedOperator
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import BYTE_OPS, Target, host

log = logging.getLogger(__name__)

MODEL_FILE = "model.onnx"
_IN_MEMORY_BYTES = 1_500_000_000  # protobuf ends at 2 GB, and a copy is made on the way
_BYTE_PROBE = """<ir_version: 8, opset_import: ["" : 17]>
g (uint8[1, 4, 2, 2] x) => (uint8[a, b, c, d] y) {{ y = {body} }}"""
_STANDARD_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


class OnnxRuntime:
    """ONNX Runtime's CPU provider."""

    name = "onnxruntime"

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
            if node.domain not in _STANDARD_DOMAINS
            and node.op_identifier() not in model.ir.functions
            and (node.domain, node.op_type) not in _operators()
        }
        if refused:
            return Support(refused)
        try:
            self.session(model, target)
        except LwcError as error:
            return Support(_blame(model, error))
        return Support()

    def session(self, model: Model, target: Target, outputs: Sequence[str] = ()) -> Session:
        """Run `model` from memory; `outputs` names values to return besides the graph's own outputs.

        Raises UnsupportedOperator, InvalidGraph, BadInput.
        """
        return self._session(_tapped(model, outputs), session_options(target))

    def profile(self, model: Model, target: Target, feeds: Sequence[Feeds], runs: int) -> dict[str, float]:
        """Median milliseconds per run in each executed node, by the name of a node of `model`."""
        return self.detailed_profile(model, target, feeds, runs).milliseconds

    def detailed_profile(self, model: Model, target: Target, feeds: Sequence[Feeds], runs: int) -> Profile:
        """The same with the operator that ran under each name.

        feeds are taken in turn, after two runs that are not counted.
        """
        with tempfile.TemporaryDirectory(prefix="lwc-profile-") as folder:
            options = session_options(target)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "ort")
            session = self._session(model, options)
            for k in range(runs + 2):
                session.run(feeds[k % len(feeds)])
            return read_profile(Path(session.end_profiling()), skip_runs=2, model=model.ir)

    def build(self, model: Model, target: Target, options: BuildOptions) -> tuple[str, ...]:
        """Write model.onnx, weights beside it when asked or over 2 GB. Raises UnsupportedOperator if not portable."""
        if options.portable:
            _refuse_foreign(model)
        model.save(options.folder / MODEL_FILE, external_data=options.external_data)
        return tuple(sorted(path.name for path in options.folder.iterdir() if path.name.startswith(MODEL_FILE)))

    def load(self, folder: Path, target: Target) -> Session:
        """Open what `build` wrote. Raises BadInput when it is not there."""
        path = folder / MODEL_FILE
        if not path.is_file():
            raise BadInput(f"{folder}: no {MODEL_FILE} in it.")
        return OrtSession(create(str(path), session_options(target), folder.name), folder.name)

    def _session(self, model: Model, options: ort.SessionOptions) -> OrtSession:
        if _weight_bytes(model) < _IN_MEMORY_BYTES:
            proto = _in_memory(model).to_proto()
            return OrtSession(create(proto.SerializeToString(), options, model.name), model.name)
        with tempfile.TemporaryDirectory(prefix="lwc-session-") as folder:
            path = Path(folder) / MODEL_FILE
            model.save(path, external_data=True)
            return OrtSession(create(str(path), options, model.name), model.name)


def _tapped(model: Model, outputs: Sequence[str]) -> Model:
    """A fork whose graph also returns these values; the model itself when there is nothing to add."""
    present = {value.name for value in model.graph.outputs}
    wanted = [name for name in dict.fromkeys(outputs) if name not in present]
    if not wanted:
        return model
    fork = model.fork()
    values = {value.name: value for value in (*fork.graph.inputs, *fork.graph.initializers.values())}
    values |= {value.name: value for node in fork.graph for value in node.outputs}
    for name in wanted:
        if name not in values:
            raise BadInput(f"{model.name}: the main graph has no value '{name}' to return.")
        fork.graph.outputs.append(values[name])
    return fork


def _weight_bytes(model: Model) -> int:
    return sum(
        value.const_value.nbytes
        for graph in model.ir.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )


def _in_memory(model: Model) -> Model:
    """A fork without references to files, which a session from bytes cannot follow."""
    tensors = [value.const_value for graph in model.ir.graphs() for value in graph.initializers.values()]
    if not any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
        return model
    fork = model.fork()
    ir.external_data.load_to_model(fork.ir)
    return fork


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


def _blame(model: Model, error: LwcError) -> Mapping[str, str]:
    """The nodes that an error of loading names, by node name or by operator; else the model itself."""
    text = str(error)
    named = [node for node in model.nodes() if node.name and f"'{node.name}'" in text]
    if not named and isinstance(error, UnsupportedOperator):
        named = [n for n in model.nodes() if f"'{n.op_type}'" in text or f"'{n.domain}:{n.op_type}'" in text]
    return {node.name or node.op_type: error.message for node in named} or {model.name: error.message}


def _refuse_foreign(model: Model) -> None:
    foreign = sorted({f"{n.domain}:{n.op_type}" for n in model.nodes() if n.domain not in _STANDARD_DOMAINS})
    if foreign:
        raise UnsupportedOperator(
            f"{model.name}: not portable, it uses {', '.join(foreign)}.", "Build without --portable."
        )
