"""Compiled models of one graph: one that takes any shapes, and a few for shapes that keep coming.

Compiled for its shapes, a model runs up to 1.5 times as fast as for any (magika, float32; 1.05 times on the PP-OCRv4
reader), but compiling takes as long as several runs: it pays for shapes that come again and again.

Shapes are inferred before a graph runs with them for the first time: OpenVINO 2026.4 does not check them itself when
they are dynamic, and writes past the end of its buffers when they do not fit each other (MatMul of 2x3 by 4x5).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import openvino as ov

log = logging.getLogger(__name__)

DEVICE = "CPU"
WITHOUT_INT8 = {"LP_TRANSFORMS_MODE": False}  # a property without documentation; seen in 2026.4
STEADY_RUNS = 3  # so many times in a row shapes must come to get a compiled model of their own
STATIC_MODELS = 2

Shapes = tuple[tuple[int, ...], ...]


@lru_cache(maxsize=1)
def core() -> ov.Core:
    """One for all models: it loads the plugin when it is first used."""
    return ov.Core()


class Executable:
    """A compiled model with its request for inference."""

    def __init__(self, graph: ov.Model, options: Mapping[str, Any]) -> None:
        self.model = core().compile_model(graph, DEVICE, dict(options))
        self.request = self.model.create_infer_request()


def compile_somehow(graph: ov.Model, options: Mapping[str, Any]) -> Executable:
    """With int8 kernels if that works. Raises RuntimeError."""
    try:
        return Executable(graph, options)
    except RuntimeError as error:
        if not any(op.get_type_name() == "FakeQuantize" for op in graph.get_ops()):
            raise
        log.debug("%s: again without int8 after: %s", graph.get_friendly_name(), error)
        return Executable(graph, {**options, **WITHOUT_INT8})


class Executables:
    """Finds, or compiles, what runs arrays of given shapes. Raises whatever OpenVINO raises."""

    def __init__(self, graph: ov.Model, options: Mapping[str, Any], *, ready: bool = True) -> None:
        """ready: compile for any shapes at once; else the first shapes get a model of their own, mostly the only one.

        general: what takes all shapes, None while nobody has asked for it
        """
        dynamic = graph.is_dynamic()
        self.general: Executable | None = None
        self._given, self._options = graph.clone() if dynamic else graph, options
        self._graph = graph if dynamic else None
        if ready or not dynamic:
            self.general = compile_somehow(graph, options)
        self._fitting: set[Shapes] = set()
        self._own: OrderedDict[Shapes, Executable] = OrderedDict()
        self._last: Shapes = ()
        self._streak = 0

    @property
    def any_shapes(self) -> Executable:
        """What takes all shapes; compiled when it is first asked for."""
        if self.general is None:
            self.general = compile_somehow(self._given, self._options)
        return self.general

    def of(self, shapes: Shapes) -> Executable:
        """shapes: of the graph's inputs, in its order"""
        if self._graph is None:
            return self.any_shapes
        self._streak = self._streak + 1 if shapes == self._last else 1
        self._last = shapes
        if shapes not in self._fitting:
            self._infer(self._graph, shapes)
            self._fitting.add(shapes)
        if shapes in self._own:
            self._own.move_to_end(shapes)
            return self._own[shapes]
        first = self.general is None and not self._own
        if self._streak < STEADY_RUNS and not first:
            return self.any_shapes
        return self._compile(self._graph, shapes)

    def _compile(self, graph: ov.Model, shapes: Shapes) -> Executable:
        while len(self._own) >= STATIC_MODELS:
            self._own.popitem(last=False)
        self._infer(graph, shapes)
        try:
            self._own[shapes] = Executable(graph, self._options)
        except RuntimeError as error:
            log.debug("%s: stays compiled for any shapes after: %s", graph.get_friendly_name(), error)
            self._own[shapes] = self.any_shapes
        return self._own[shapes]

    def _infer(self, graph: ov.Model, shapes: Sequence[Sequence[int]]) -> None:
        graph.reshape({port: list(shape) for port, shape in zip(graph.inputs, shapes, strict=True)})
