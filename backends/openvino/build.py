"""The OpenVINO backend: sessions from memory, deployables as an IR beside the ONNX model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import openvino as ov

from lwc.backends.openvino.compiled import DEVICE, STEADY_RUNS, core
from lwc.backends.openvino.errors import convert
from lwc.backends.openvino.profile import counted, kernels_of, milliseconds_by_node
from lwc.backends.openvino.session import OpenVinoSession, read, settings
from lwc.backends.serving import MODEL_FILE, blame, refuse_foreign, tapped
from lwc.backends.signature import Signature
from lwc.compiler.core.backend import BuildOptions, Feeds, Session, Support
from lwc.compiler.core.errors import BadInput, LwcError
from lwc.compiler.core.float_format import FLOAT_FORMAT_KEY, float_format
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import BFloat16, Float, Float16, StaticInt8, Weight4, Weight8
from lwc.compiler.core.target import Target

IR_FILE = "model.xml"
SIGNATURE_KEY = "lwc.signature"
KEPT_CHOICES = (Float.name, StaticInt8.name, Weight8.name, Weight4.name)
BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
FP16_FEATURES = frozenset({"avx512_fp16"})


class OpenVino:
    """OpenVINO's CPU plugin."""

    name = "openvino"
    may_crash = True  # SIGFPE on integer graphs of magika (2026.4)
    fixes_shapes = False

    def version(self) -> str:
        return f"openvino {ov.__version__}"

    def narrow(self, target: Target) -> Target:
        """Float, static int8, integer weights; 16-bit floats, as hints for the whole model, where the CPU has them."""
        capable = core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        bf16 = "BF16" in capable and bool(target.features & BF16_FEATURES)
        fp16 = "FP16" in capable and bool(target.features & FP16_FEATURES)
        hinted = [choice.name for choice, offered in ((BFloat16, bf16), (Float16, fp16)) if offered]
        kept = [name for name in target.choices if name in KEPT_CHOICES]
        return replace(
            target, choices=(*kept, *hinted), bf16_by_hint=bf16, fp16_by_hint=fp16, moves_codes=False
        )

    def supports(self, model: Model, target: Target) -> Support:
        """Refused: the nodes that OpenVINO names when it reads and compiles the model; else the model itself."""
        try:
            _session(model, settings(target, float_format(model.ir)), ready=True)
        except LwcError as error:
            return Support(blame(model, error))
        return Support()

    def session(
        self, model: Model, target: Target, outputs: Sequence[str] = (), *, lean: bool = False
    ) -> Session:
        """Run `model` from memory; `outputs` names values to return besides the graph's own outputs.

        A model of dynamic shapes is compiled for those it is first run with.
        Raises UnsupportedOperator, BadInput.
        """
        return _session(tapped(model, outputs), settings(target, float_format(model.ir)))

    def profile(self, model: Model, target: Target, feeds: Sequence[Feeds], runs: int) -> dict[str, float]:
        """Median milliseconds per run in each executed node, by the name of a node of `model`.

        feeds are taken in turn, after the runs that make up the mind of the session about their shapes.
        """
        session = _session(model, settings(target, float_format(model.ir), profile=True))
        times = []
        for k in range(STEADY_RUNS + runs):
            session.run(feeds[k % len(feeds)])
            assert session.last is not None
            times.append(counted(session.last.request))
        assert session.last is not None
        return milliseconds_by_node(kernels_of(session.last.model), times[STEADY_RUNS:], model.ir)

    def build(self, model: Model, target: Target, options: BuildOptions) -> tuple[str, ...]:
        """Write model.onnx and the IR made of it, weights as they are. Raises UnsupportedOperator, BadInput."""
        if options.portable:
            refuse_foreign(model)
        model.save(options.folder / MODEL_FILE, external_data=options.external_data)
        graph = read(model)
        graph.set_rt_info(Signature.of(model).to_json(), SIGNATURE_KEY)
        graph.set_rt_info(float_format(model.ir), FLOAT_FORMAT_KEY)
        ov.save_model(graph, options.folder / IR_FILE, compress_to_fp16=False)
        return tuple(sorted(path.name for path in options.folder.iterdir() if path.name.startswith("model.")))

    def load(self, folder: Path, target: Target) -> Session:
        """Open what `build` wrote: the IR, or model.onnx when the IR is not there. Raises BadInput."""
        if (folder / IR_FILE).is_file():
            return _load_ir(folder, target)
        if not (folder / MODEL_FILE).is_file():
            raise BadInput(f"{folder}: neither {IR_FILE} nor {MODEL_FILE} in it.")
        model = Model.open(folder / MODEL_FILE)
        return _session(model, settings(target, float_format(model.ir)), ready=True)


def _session(model: Model, options: Mapping[str, Any], *, ready: bool = False) -> OpenVinoSession:
    return OpenVinoSession(read(model), options, Signature.of(model), model.name, ready=ready)


def _load_ir(folder: Path, target: Target) -> OpenVinoSession:
    try:
        graph = core().read_model(folder / IR_FILE)
        signature = Signature.from_json(str(graph.get_rt_info(SIGNATURE_KEY).value))
        options = settings(target, str(graph.get_rt_info(FLOAT_FORMAT_KEY).value))
    except Exception as error:
        raise convert(error, folder.name) from error
    return OpenVinoSession(graph, options, signature, folder.name)
