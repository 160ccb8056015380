"""Adapters folded into the model that they were trained on: nothing of them is left to run.

    LoRA    W' = W + s dW         dW = B A        s = alpha / rank, of rslora alpha / sqrt(rank)      Hu et al. 2022
    DoRA    W' = m (W + s dW) / |W + s dW|        lengths and m of each output                        Liu et al. 2024

What merge_and_unload of PEFT does, with one difference: a table that is tied to a projection is changed where the
adapter was, and stays as it was elsewhere, as it is when an adapter runs.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from lwc.compiler.analysis.matching import Unmatched, shape_of
from lwc.compiler.core.errors import BadInput, UsageError
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext, Pipeline
from lwc.compiler.core.progress import Progress
from lwc.compiler.core.storage import data_files
from lwc.compiler.core.target import find_target
from lwc.compiler.merging.align import PLAIN, DoesNotMatch, Missing, own_value
from lwc.compiler.merging.lora_adapter import Adapter, AdapterFile, Tensor, read_adapter
from lwc.compiler.merging.lora_places import Path as ModulePath
from lwc.compiler.merging.lora_places import Place, bias_of, likeness, path_of, places_of
from lwc.compiler.merging.merge import Line, Merged, Openable
from lwc.compiler.merging.roles import Role, refuse_quantized
from lwc.compiler.merging.stream import write_merged

NO_LENGTH = 1e-30  # an output whose weights are all zero has no direction


@dataclass(frozen=True)
class Folded:
    """One parameter that an adapter changed. how: for the table"""

    value: ir.Value
    module: str
    how: str


class NoPlace(DoesNotMatch):
    """Adapters for modules that the model does not have, has twice, or has in another shape."""

    code = "no_place"

    def __init__(self, missing: Sequence[Missing]) -> None:
        first = missing[0]
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        BadInput.__init__(
            self,
            f"'{first.tensor.name}' of the adapter '{first.model}' cannot be folded into '{first.other}': "
            f"{first.tensor.reason}{more}.",
            "With --partial, the others are folded.",
        )
        self.missing = tuple(missing)


def fold_adapters(
    base: Model, files: Sequence[Path], scale: float, progress: Progress
) -> tuple[Model, list[Folded], list[Missing]]:
    """A fork of the base with all adapters in its weights, one after the other, made when they are asked for.

    scale: what changes are multiplied by, besides the adapter's own. Raises UsageError, BadInput
    """
    adapters = [read_adapter(file, scale) for file in files]
    refuse_quantized([base])
    model = base.fork()
    Pipeline(PLAIN).run(model.ir, PassContext(find_target("host")))
    folded: list[Folded] = []
    missing: list[Missing] = []
    progress.stage("Folding", sum(len(file.adapters) for file in adapters))
    for file in adapters:
        folding = _Folding(model, file)
        folding.run(progress)
        folded += folding.folded
        missing += (Missing(str(file.path), base.name, one) for one in folding.missing)
    return model, folded, missing


class _Folding:
    """One adapter file into one model."""

    def __init__(self, model: Model, file: AdapterFile) -> None:
        self.model = model
        self.file = file
        self.places = places_of(model.ir)
        self.folded: list[Folded] = []
        self.missing: list[Unmatched] = []

    def run(self, progress: Progress) -> None:
        for name, tensor in self.file.trained.items():
            self._replace(name, tensor)
        found = {adapter: self._find(path_of(adapter.module), adapter.embeds) for adapter in self.file.adapters}
        readers = [place.node for places in found.values() if not isinstance(places, str) for place in places]
        for adapter, places in found.items():
            if not isinstance(places, str) and any(readers.count(place.node) > 1 for place in places):
                places = f"'{places[0].value.name}' fits other modules as well"
            reason = places if isinstance(places, str) else self._fold(adapter, places)
            if reason:
                self.missing.append(Unmatched(adapter.module, (*adapter.up.shape[:1], *adapter.down.shape[1:]), reason))
            progress.advance()

    def _find(self, module: ModulePath, embeds: bool | None = None) -> list[Place] | str:
        """Where the module's weight is read; a reason when nobody says, or more than one weight is said to be it."""
        liked = {
            place: likeness(module, place.paths)
            for place in self.places
            if embeds is None or place.embeds == embeds
        }
        best = max(liked.values(), default=0)
        if not best:
            return "no weight of the graph is called so"
        fitting = [place for place, count in liked.items() if count == best]
        scoped = [place for place in fitting if likeness(module, place.scopes) == best]
        told = {place.value for place in scoped}  # exporters store equal weights once, under the name of one
        fitting = [place for place in fitting if place in scoped or place.value not in told]
        names = list(dict.fromkeys(f"'{place.value.name}'" for place in fitting))
        return fitting if len(names) == 1 else f"{', '.join(names[:3])} fit alike"

    def _fold(self, adapter: Adapter, places: Sequence[Place]) -> str:
        """Change the weight; a reason when it cannot be."""
        value, inputs_first = places[0].value, places[0].inputs_first
        if any(place.inputs_first != inputs_first for place in places):
            return f"'{value.name}' is read both ways round"
        stored = shape_of(value)
        wanted = (*adapter.up.shape[:1], *adapter.down.shape[1:])
        if _without_ones((*stored[::-1],) if inputs_first else stored) != _without_ones(wanted):
            return f"'{value.name}' has the shape {list(stored)}"
        biases = [bias_of(place.node) for place in places] if adapter.bias is not None else []
        if None in biases:
            return f"the layer of '{value.name}' has no bias, and the adapter changes it"
        own = own_value(value, [(place.reader, place.index) for place in places])
        self.places = [_moved(place, own) if place in places else place for place in self.places]
        _put_changed(own, adapter, inputs_first)
        self._note(own, adapter.module, f"{'lora' if adapter.magnitude is None else 'dora'}, rank {adapter.rank}")
        for node, index in dict.fromkeys(place for place in biases if place is not None):
            bias = node.inputs[index]
            assert bias is not None
            assert adapter.bias is not None
            assert bias.const_value is not None
            changed = bias.const_value.numpy().astype(np.float32) + adapter.scale * adapter.bias.astype(np.float32)
            self._put(own_value(bias, [(node, index)]), changed, f"{adapter.module}.bias", "lora, bias")
        return ""

    def _replace(self, name: str, tensor: Tensor) -> None:
        """Put a parameter that was trained whole in its place."""
        *module, kind = path_of(name)
        named = [
            value
            for graph in self.model.ir.graphs()
            for value in graph.initializers.values()
            if likeness(path_of(name), [path_of(value.name or "")]) > 1 and shape_of(value) == tensor.shape
        ]
        if len(named) == 1:
            self._put(named[0], tensor, name, "trained whole")
            return
        places = self._find(tuple(module))
        reason = places if isinstance(places, str) else self._replace_at(places, kind, name, tensor)
        if reason:
            self.missing.append(Unmatched(name, tensor.shape, reason))

    def _replace_at(self, places: Sequence[Place], kind: str, name: str, tensor: Tensor) -> str:
        place = places[0]
        slot = (place.reader, place.index) if kind == "weight" else bias_of(place.node) if kind == "bias" else None
        value = None if slot is None else slot[0].inputs[slot[1]]
        if slot is None or value is None:
            return "no parameter of the graph is called so"
        turned = tensor.T if kind == "weight" and place.inputs_first and not place.embeds else tensor
        if shape_of(value) != turned.shape:
            return f"'{value.name}' has the shape {list(shape_of(value))}"
        self._put(value, turned, name, "trained whole")
        return ""

    def _put(self, value: ir.Value, tensor: Tensor, module: str, how: str) -> None:
        assert value.const_value is not None
        dtype = value.const_value.dtype
        array = np.ascontiguousarray(tensor.astype(dtype.numpy()))
        value.const_value = ir.Tensor(array, dtype, shape=ir.Shape(array.shape), name=value.name)
        self._note(value, module, how)

    def _note(self, value: ir.Value, module: str, how: str) -> None:
        self.folded.append(Folded(value, module, how))


def _moved(place: Place, value: ir.Value) -> Place:
    return Place(place.node, value, place.inputs_first, place.reader, place.index, place.scopes, place.embeds)


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a convolution of one pixel is that of a product."""
    return (*shape[:2], *(size for size in shape[2:] if size != 1))


def _put_changed(value: ir.Value, adapter: Adapter, inputs_first: bool) -> None:
    """Let the value hold its tensor with the adapter's change, made when it is asked for."""
    tensor = value.const_value
    assert tensor is not None

    def make() -> ir.TensorProtocol:
        stored = tensor.numpy()
        weight = stored.T if inputs_first else stored
        found = changed_weight(weight.astype(np.promote_types(np.float32, _plain(stored.dtype))), adapter)
        array = np.ascontiguousarray((found.T if inputs_first else found).astype(stored.dtype))
        if not np.isfinite(array.astype(np.float32, copy=False)).all():
            raise BadInput(f"Folding '{adapter.module}' gives NaN or infinities in {stored.dtype}.")
        return ir.Tensor(array, tensor.dtype, shape=ir.Shape(array.shape), name=value.name)

    value.const_value = ir.LazyTensor(
        make, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=value.name, doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )  # fmt: skip


def _plain(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """What NumPy can promote: bfloat16 is narrower than float32."""
    return dtype if dtype.kind == "f" else np.dtype(np.float32)


def changed_weight(weight: Tensor, adapter: Adapter) -> Tensor:
    """The weight [out, in ...] with the adapter in it."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: Tensor = weight + adapter.change().reshape(weight.shape)
        if adapter.magnitude is None:
            return found
        flat = found.reshape(len(found), -1)
        lengths = np.sqrt(np.einsum("oi,oi->o", flat, flat, dtype=np.float64))
        factors = adapter.magnitude.astype(np.float64) / np.maximum(lengths, NO_LENGTH)
        found *= factors.astype(found.dtype).reshape(-1, *(1,) * (found.ndim - 1))
        return found


def merge_adapters(
    models: Sequence[Openable], files: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None,
    settings: Mapping[str, Any], progress: Progress,
) -> Merged:  # fmt: skip
    """`lwc merge BASE --lora`: fold, write to `out`, report.

    settings: scale and partial
    Raises UsageError, BadInput, NoPlace where something has no place and partial is not set.
    """
    start = time.perf_counter()
    given = {name: value for name, value in settings.items() if value is not None}
    others = [name for name in given if name not in ("scale", "partial", "seed")]
    if others:
        raise UsageError(f"Folding adapters knows no {others[0]}.", "Leave it out, or leave out --lora.")
    if len(models) != 1:
        raise UsageError(f"Adapters are folded into one model, not {len(models)}.", "Merge the models first.")
    scale, base = float(given.get("scale", 1.0)), models[0]
    base = base if isinstance(base, Model) else Model.open(os.fspath(base))
    if not math.isfinite(scale):
        raise UsageError(f"'scale' must be finite, not {scale:g}.")
    model, folded, missing = fold_adapters(base, [Path(file) for file in files], scale, progress)
    if missing and not given.get("partial"):
        raise NoPlace(missing)
    if out is not None:
        write_merged(model, Path(out), external=bool(data_files(base.ir)))
    return Merged(
        method="lora",
        models=(base.name, *(os.fspath(file) for file in files)),
        base=base.name,
        lines=tuple(_line(one) for one in folded),
        missing=tuple(missing),
        guessed=(),
        notes=(),
        model=model,
        out=None if out is None else os.fspath(out),
        bytes=model.weight_bytes(),
        seconds=time.perf_counter() - start,
    )


def _line(one: Folded) -> Line:
    name = one.value.name or ""
    return Line(name, shape_of(one.value), Role.WEIGHT.value, one.how, (name, one.module))
