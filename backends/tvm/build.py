"""The TVM backend: sessions compiled in memory, deployables as a shared library beside the ONNX model."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tvm

from lwc import backends
from lwc.backends.serving import MODEL_FILE, blame, refuse_foreign, tapped
from lwc.backends.signature import Signature
from lwc.backends.tvm.bundle import bundle
from lwc.backends.tvm.chain import PROGRAM, load_parts, on_tvm, open_part, open_parts, planned_bytes, store_parts
from lwc.backends.tvm.compiled import refusal
from lwc.backends.tvm.cut import Part, cut
from lwc.backends.tvm.errors import convert
from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.processor import standing_in
from lwc.backends.tvm.profile import profile
from lwc.backends.tvm.specialized import Shapes, Specialized, fixed, shapes_of
from lwc.backends.tvm.toolchain import is_native
from lwc.backends.tvm.tuning import tune_models
from lwc.backends.tvm.turns import reference
from lwc.backends.tvm.weights import WeightsFile
from lwc.compiler.core.backend import BuildOptions, Feeds, Session, Support
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import BFloat16, Float, StaticInt8, Weight4, Weight8
from lwc.compiler.core.progress import Progress
from lwc.compiler.core.target import Target

WEIGHTS = f"{PROGRAM}.weights"  # of all programs
SECONDS_FOR_MORE = 30.0  # to compile for more than one set of shapes
CONTENTS = "parts.json"  # the signature, and for each set of shapes the parts in the order they run
KEPT_CHOICES = (Float.name, StaticInt8.name, Weight8.name, Weight4.name)


class Tvm:
    """Apache TVM with the schedules of this package, on CPUs, for models that it can take as a whole."""

    name = "tvm"
    may_crash = True
    fixes_shapes = True

    def version(self) -> str:
        return f"tvm {tvm.__version__}"

    def narrow(self, target: Target) -> Target:
        """Float, static int8, weights of 8 and 4 bits; bfloat16 as a hint for the model where tiles multiply it."""
        tiles = Machine.of(target).tiles
        hinted = (BFloat16.name,) if tiles else ()
        choices = (*(name for name in target.choices if name in KEPT_CHOICES), *hinted)
        return replace(target, choices=choices, bf16_by_hint=tiles, moves_codes=False, byte_ops=frozenset())

    def supports(self, model: Model, target: Target) -> Support:
        """Refused: the nodes that `hybrid` gives to ONNX Runtime; the model itself when there is no telling.

        Of a model that leaves dimensions open only the import is tried.
        """
        try:
            if shapes_of(Signature.of(model), {}) is None:
                import_model(model)
            elif reason := refusal(model, target):
                return Support(cut(model, target, lambda part: refusal(part, target)).refused or {model.name: reason})
        except LwcError as error:
            return Support(blame(model, error))
        return Support()

    def session(
        self, model: Model, target: Target, outputs: Sequence[str] = (), *, lean: bool = False
    ) -> Session:
        """Compile `model` and run it from memory; `outputs` names values to return besides the graph's own outputs.

        A model of dynamic shapes is compiled for those it is first run with, and for a few that come again and again.
        Where this machine cannot run code for the target, it is compiled for this machine.
        Raises UnsupportedOperator, BadInput.
        """
        model, target = tapped(model, outputs), standing_in(target)
        signature = Signature.of(model)

        def made(shapes: Shapes) -> Session:
            sized = fixed(model, shapes)
            return open_parts(self.parts(sized, target), sized, target)

        shapes = shapes_of(signature, {})
        ready = {} if shapes is None else {shapes: made(shapes)}
        return Specialized(signature, model.name, ready, made, lambda: reference().session(model, target))

    def profile(self, model: Model, target: Target, feeds: Sequence[Feeds], runs: int) -> dict[str, float]:
        """Median milliseconds per run in each node, by the name of a node of `model`: partly guessed, see `profile`.

        feeds are taken in turn, but for those of other shapes than the first.
        """
        target = standing_in(target)
        signature = Signature.of(model)
        shapes = [tuple(feed[port.name].shape for port in signature.inputs) for feed in feeds]
        parts = self.parts(fixed(model, shapes[0]), target)
        steps = [(open_part(part, target), part.model) for part in parts]
        return profile(steps, [feed for feed, own in zip(feeds, shapes, strict=True) if own == shapes[0]], runs)

    def tune(
        self, models: Sequence[tuple[Model, Mapping[str, tuple[int, ...]]]], target: Target, seconds: float,
        progress: Progress, tuner: str | None = None,
    ) -> None:  # fmt: skip
        """Find faster kernels for models of these shapes, and keep them in the folder `target.tuned`.

        tuner: as `tune_models` has it. Raises UsageError where they cannot be run or kept.
        """
        sized = [(model, shapes_of(Signature.of(model), given)) for model, given in models]
        parts = [
            part.model for model, shapes in sized if shapes is not None
            for part in self.parts(fixed(model, shapes), target) if part.taken
        ]  # fmt: skip
        tune_models(parts, target, seconds, progress, tuner)

    def build(self, model: Model, target: Target, options: BuildOptions) -> tuple[str, ...]:
        """Write model.onnx, libraries made of it for the shapes in the options, and what they are.

        All after the first as far as SECONDS_FOR_MORE allow. Without shapes for a model that leaves them open, it is
        compiled when it is first run. With code for a processor that is not of this machine's kind comes the runtime
        for it.
        Raises UnsupportedOperator, BadInput, MissingDependency.
        """
        if options.portable:
            refuse_foreign(model)
        model.save(options.folder / MODEL_FILE, external_data=options.external_data)
        signature = Signature.of(model)
        variants: list[dict[str, Any]] = []
        weights = WeightsFile(options.folder / WEIGHTS)
        start = time.perf_counter()
        for shapes in _distinct(signature, options.shapes):
            if variants and time.perf_counter() > start + SECONDS_FOR_MORE:
                break
            name = f"{PROGRAM}.shape{len(variants)}" if variants else PROGRAM
            parts = self.parts(fixed(model, shapes), target)
            variants.append({"shapes": shapes, "parts": store_parts(parts, target, options.folder, weights, name)})
        if variants and not is_native(Machine.of(target).triple):
            bundle(options.folder, Machine.of(target).triple)
        contents = {"signature": json.loads(signature.to_json()), "variants": variants}
        (options.folder / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
        return tuple(sorted(path.name for path in options.folder.iterdir()))

    def activation_bytes(self, folder: Path) -> int | None:
        """Of what `build` wrote: the parts that TVM runs; None where it was built for no shapes."""
        variants = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))["variants"]
        return planned_bytes(variants[0]["parts"], folder) if variants else None

    def built_for(self, folder: Path) -> Sequence[Mapping[str, tuple[int, ...]]]:
        """Shapes of the inputs that `build` compiled for, in the order they were asked for."""
        contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        names = [port.name for port in Signature.from_json(json.dumps(contents["signature"])).inputs]
        return [dict(zip(names, map(tuple, variant["shapes"]), strict=True)) for variant in contents["variants"]]

    def load(self, folder: Path, target: Target) -> Session:
        """Open what `build` wrote. Raises BadInput when it is not there or cannot be read.

        Shapes that it was not built for run on ONNX Runtime; where that is not installed, they are compiled for.
        Asked for a target whose code this machine cannot run, it compiles the model for this machine.
        """
        if standing_in(target) != target:
            return self.session(Model.open(folder / MODEL_FILE), target)
        try:
            contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
            signature = Signature.from_json(json.dumps(contents["signature"]))
            variants = {
                tuple(tuple(shape) for shape in variant["shapes"]): variant["parts"]
                for variant in contents["variants"]
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise convert(error, folder.name) from error
        ready = {shapes: load_parts(parts, signature, folder, target) for shapes, parts in variants.items()}

        def made(shapes: Shapes) -> Session:
            sized = fixed(Model.open(folder / MODEL_FILE), shapes)
            return open_parts(self.parts(sized, target), sized, target)

        if backends.REFERENCE not in backends.available():
            return Specialized(signature, folder.name, ready, made, None)
        in_turns = not ready or any(map(on_tvm, variants.values()))
        return Specialized(
            signature, folder.name, ready, None if ready else made, lambda: reference(in_turns).load(folder, target)
        )

    def parts(self, model: Model, target: Target) -> Sequence[Part]:
        """What runs one after the other: here the whole model. model: of fixed shapes"""
        return (Part(model, True),)


def _distinct(signature: Signature, given: Sequence[Mapping[str, tuple[int, ...]]]) -> Sequence[Shapes]:
    """Complete ones, each once; those of the signature where they are all fixed."""
    found = (shapes_of(signature, shapes) for shapes in (*given, {}))
    return list(dict.fromkeys(shapes for shapes in found if shapes is not None))
