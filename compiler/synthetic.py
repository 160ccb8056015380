"""Plausible inputs for a model nobody gave samples for, chosen by each input's type, rank and name.

4-D floats with 1, 3 or 4 channels first or last   images, scaled as the model's first operator expects
uint8 of that form                                  images 0 .. 255
[n, samples] floats named as sound, free or > 4000  voice-like sound
integers named ids, tokens ...                      codes below the vocabulary of the Gather that reads them
*mask*, *token_type*, *position*, *len*             ones with a padded tail, zeros, 0 .. T - 1, the unpadded length
states and caches                                   zeros
other floats                                        normal noise
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.core.backend import Feeds, Port
from lwc.compiler.core.errors import BadCalibration, LwcError
from lwc.compiler.core.model import Model
from lwc.compiler.fitting import STATE
from lwc.compiler.signals import image, sound, tokens
from lwc.compiler.synthetic_shapes import CANDIDATES, CHANNELS, Sizes, resolve

Array = NDArray[Any]

RATE = 16000  # samples of sound a second
_UNKNOWN_VOCABULARY = 100
# Mean and deviation of photographs' pixels, roughly ImageNet's.
_MEAN, _DEVIATION = 0.45, 0.225

_SOUND = re.compile(r"audio|wav|sound|speech|signal|pcm", re.IGNORECASE)
_MASK = re.compile(r"mask", re.IGNORECASE)
_SEGMENT = re.compile(r"token_type|segment", re.IGNORECASE)
_POSITION = re.compile(r"position", re.IGNORECASE)
_LENGTH = re.compile(r"len(gth)?s?(_|$|\d)", re.IGNORECASE)
_RATE = re.compile(r"^sr$|sample_?rate|sampling_?rate", re.IGNORECASE)
_BYTES = re.compile(r"byte", re.IGNORECASE)
_SIZE = re.compile(r"(im|img|image|target|orig)\w*_(shape|size)", re.IGNORECASE)
_UNIT = re.compile(r"scale|factor|temperature|speed", re.IGNORECASE)
# Operators that hand codes on unchanged, between an input and the Gather that looks them up.
_THROUGH = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Slice"})


@dataclass(frozen=True)
class SyntheticSamples:
    """Samples made by seed and index.

    shapes: of each input;  vocabularies: of inputs that are looked up;  pixels: inputs that take 0 .. 255
    """

    inputs: tuple[Port, ...]
    shapes: Mapping[str, tuple[int, ...]]
    vocabularies: Mapping[str, int]
    pixels: frozenset[str]
    count: int
    seed: int

    @staticmethod
    def plan(
        inputs: Sequence[Port],
        model: Model | None,
        count: int,
        seed: int,
        fixed: Mapping[str, Sequence[int]],
        run: Callable[[Feeds], object] | None = None,
    ) -> SyntheticSamples:
        """Decide shapes and scales, by trying CANDIDATES where `run` is given.

        Raises BadCalibration for inputs that cannot be made up.
        """
        strange = [port.name for port in inputs if port.dtype.kind not in "biufV"]
        if strange:
            raise BadCalibration(
                f"Input '{strange[0]}' takes strings or a sequence, which cannot be made up.", "Give samples (--calib)."
            )
        values = {value.name: value for value in model.graph.inputs} if model is not None else {}
        vocabularies = {name: size for name in values if name and (size := _vocabulary(values[name])) is not None}
        pixels = frozenset(name for name in values if name and _takes_pixels(values[name]))
        first: LwcError | None = None
        for sizes in CANDIDATES:
            shapes = resolve(inputs, fixed, sizes)
            samples = SyntheticSamples(tuple(inputs), shapes, vocabularies, pixels, count, seed)
            if run is None:
                return samples
            try:
                run(samples[0])
                return samples
            except LwcError as error:
                first = first or error
        raise BadCalibration(
            f"No made-up inputs were found that the model runs on ({first.message if first else ''}).",
            "Give samples (--calib), or fix shapes (--shape NAME=1,3,48,320).",
        ) from first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Mapping[str, Array]:
        rng = np.random.default_rng([self.seed, index])
        steps = max((self.shapes[port.name][-1] for port in self.inputs if self._is_text(port)), default=Sizes.steps)
        used = int(rng.integers(max(1, steps // 2), steps + 1))
        return {port.name: self._make(port, rng, used).astype(port.dtype) for port in self.inputs}

    def origin(self, index: int) -> str:
        return f"Synthetic sample {index}"

    def keys(self) -> list[bytes]:
        """A key per sample, equal for equal samples."""
        what = [(p.name, str(p.dtype), self.shapes[p.name], self.vocabularies.get(p.name)) for p in self.inputs]
        plan = repr((what, sorted(self.pixels), self.seed)).encode()
        return [hashlib.sha256(plan + str(index).encode()).digest() for index in range(self.count)]

    def _is_text(self, port: Port) -> bool:
        return port.dtype.kind in "iub" and len(port.shape) == 2 and self.shapes[port.name][-1] > 1

    def _make(self, port: Port, rng: np.random.Generator, used: int) -> Array:
        """used: how many tokens of the sample are not padding."""
        name, shape = port.name, self.shapes[port.name]
        if _RATE.search(name):
            return np.full(shape, RATE)
        if _MASK.search(name):
            return _padded(shape, used)
        if STATE.search(name):
            return np.zeros(shape)
        if _SIZE.search(name):
            return np.broadcast_to(self._image_size(shape[-1:]), shape)
        if port.dtype.kind in "iub" and not (port.dtype == np.uint8 and _image_axis(shape) is not None):
            return self._integers(port, shape, rng, used)
        if _UNIT.search(name) and math.prod(shape) <= 4:
            return np.ones(shape)
        return self._floats(port, shape, rng)

    def _integers(self, port: Port, shape: tuple[int, ...], rng: np.random.Generator, used: int) -> Array:
        if _SEGMENT.search(port.name):
            return np.zeros(shape)
        if _POSITION.search(port.name):
            return np.broadcast_to(np.arange(shape[-1] if shape else 1), shape)
        if _LENGTH.search(port.name) and len(shape) <= 1:
            return np.full(shape, used)
        if port.dtype.kind == "b":
            return np.asarray(rng.random(shape) < 0.5)
        limit = 2 ** (8 * port.dtype.itemsize - 1) - 1
        unknown = 256 if _BYTES.search(port.name) else _UNKNOWN_VOCABULARY
        return tokens(rng, min(self.vocabularies.get(port.name, unknown), limit), shape)

    def _floats(self, port: Port, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        if 0 in shape:
            return np.zeros(shape)
        axis = _image_axis(shape)
        if axis is not None:
            height, width = (size for i, size in enumerate(shape[1:], 1) if i != axis)
            pictures = np.stack([image(rng, shape[axis], height, width) for _ in range(shape[0])])
            pictures = np.moveaxis(pictures, 1, axis)
            if port.dtype == np.uint8 or port.name in self.pixels:
                return np.rint(255.0 * pictures)
            return (pictures - _MEAN) / _DEVIATION
        samples = max(shape, default=0)
        free = not all(isinstance(size, int) for size in port.shape[-1:])
        named = _SOUND.search(port.name) or (len(shape) <= 2 and free)
        if samples > 4000 or (named and len(shape) <= 3 and samples >= 256):
            others = math.prod(shape) // samples
            waves = np.stack([sound(rng, samples) for _ in range(others)])
            at = shape.index(samples)
            return np.moveaxis(waves.reshape(*shape[:at], *shape[at + 1 :], samples), -1, at)
        return rng.standard_normal(shape)

    def _image_size(self, wanted: tuple[int, ...]) -> Array:
        for shape in self.shapes.values():
            axis = _image_axis(shape)
            if axis is not None:
                sides = [size for i, size in enumerate(shape[1:], 1) if i != axis]
                return np.array((sides + [1] * 8)[: wanted[0] if wanted else 1])
        return np.array([Sizes.height])


def _padded(shape: tuple[int, ...], used: int) -> Array:
    """Ones for the first `used` places of the last axis, zeros after; one place stays at least."""
    mask = np.zeros(shape)
    mask[..., : max(1, min(used, shape[-1] if shape else 1))] = 1
    return mask


def _image_axis(shape: Sequence[int]) -> int | None:
    """The channel axis of a batch of images, or None."""
    if len(shape) != 4:
        return None
    if shape[1] in CHANNELS and min(shape[2:]) >= 8:
        return 1
    return 3 if shape[3] in CHANNELS and min(shape[1:3]) >= 8 else None


def _vocabulary(value: ir.Value) -> int | None:
    """How many codes the tables have that an input is looked up in: the least over Gather and OneHot."""
    sizes: list[int] = []
    for usage in value.uses():
        node = usage.node
        table = node.inputs[0] if node.op_type == "Gather" and usage.idx == 1 else None
        if table is not None and table.const_value is not None:
            sizes.append(int(table.const_value.shape.numpy()[node.attributes.get_int("axis", 0)]))
        elif node.op_type == "OneHot" and usage.idx == 0:
            depth = node.inputs[1]
            if depth is not None and depth.const_value is not None:
                sizes.append(int(depth.const_value.numpy().reshape(-1)[0]))
        elif node.op_type in _THROUGH and usage.idx == 0:
            size = _vocabulary(node.outputs[0])
            sizes.extend([] if size is None else [size])
    return min(sizes, default=None)


def _takes_pixels(value: ir.Value) -> bool:
    """True when the first arithmetic on an input brings 0 .. 255 down: x / 255, x * (1 / 255), x - 120."""
    for usage in value.uses():
        node = usage.node
        if node.op_type in ("Cast", "Identity", "Transpose", "Resize"):
            if _takes_pixels(node.outputs[0]):
                return True
        elif node.op_type in ("Div", "Mul", "Sub") and usage.idx == 0:
            other = node.inputs[1]
            if other is None or other.const_value is None or other.const_value.size > 16:
                continue
            size = float(np.abs(other.const_value.numpy().astype(np.float64)).max(initial=0.0))
            if (node.op_type == "Mul" and 0.0 < size < 0.02) or (node.op_type != "Mul" and size > 20):
                return True
    return False
