"""Models whose dimensions are not all fixed: compiled for a few shapes, other shapes run on what takes any."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from lwc.backends.serving import fitting
from lwc.backends.signature import Signature
from lwc.compiler.analysis.shapes import forget_inner_shapes, infer_shapes
from lwc.compiler.core.backend import Array, Feeds, Port, Session
from lwc.compiler.core.errors import BadCalibration, LwcError
from lwc.compiler.core.model import Model

log = logging.getLogger(__name__)

STEADY_RUNS = 3  # so many times in a row shapes must come to be compiled for, once others were
MOST_SHAPES = 4  # that are compiled for while it runs, besides those that are ready

Shapes = tuple[tuple[int, ...], ...]


class Specialized:
    """A session that finds or makes what runs arrays of given shapes.

    ready: sessions by shapes of the inputs, in the signature's order
    make: compiles for shapes, may raise LwcError;  otherwise: opens what takes any shapes, None where nothing does
    """

    def __init__(
        self,
        signature: Signature,
        name: str,
        ready: Mapping[Shapes, Session],
        make: Callable[[Shapes], Session] | None,
        otherwise: Callable[[], Session] | None,
    ) -> None:
        self.inputs: tuple[Port, ...] = signature.inputs
        self.outputs: tuple[Port, ...] = signature.outputs
        self._frozen = signature.frozen
        self._name = name
        self._ready = dict(ready)
        self._own: OrderedDict[Shapes, Session] = OrderedDict()
        self._make, self._otherwise = make, otherwise
        self._general: Session | None = None
        self._last: Shapes = ()
        self._streak = 0

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name. Arrays that are no inputs (labels) are ignored.

        Raises BadCalibration when an input is missing or has another type, rank or fixed dimension, or when one is
        given that is compiled in.
        """
        given = (fitting(port, feeds, self._name) for port in self.inputs)
        shapes = tuple(value.shape if isinstance(value, np.ndarray) else () for value in given)  # sequences have none
        for name in self._frozen & feeds.keys():
            raise BadCalibration(f"{self._name}: the default of input '{name}' is compiled in and cannot be replaced.")
        return self.of(shapes).run(feeds)

    def of(self, shapes: Shapes) -> Session:
        """What runs these shapes. Raises what compiling raises where nothing else takes them."""
        self._streak = self._streak + 1 if shapes == self._last else 1
        self._last = shapes
        if shapes in self._ready:
            return self._ready[shapes]
        if shapes in self._own:
            self._own.move_to_end(shapes)
            return self._own[shapes]
        if self._otherwise is not None and (self._make is None or (self._known and self._streak < STEADY_RUNS)):
            return self._any()
        assert self._make is not None
        try:
            made = self._make(shapes)
        except LwcError as error:
            if self._otherwise is None or not self._known:
                raise
            log.info("%s: %s stays with what takes any shapes: %s", self._name, shapes, error)
            made = self._any()
        while len(self._own) >= MOST_SHAPES:
            self._own.popitem(last=False)
        self._own[shapes] = made
        return made

    @property
    def _known(self) -> bool:
        return bool(self._ready or self._own)

    def _any(self) -> Session:
        assert self._otherwise is not None
        if self._general is None:
            self._general = self._otherwise()
        return self._general


def shapes_of(signature: Signature, given: Mapping[str, tuple[int, ...]]) -> Shapes | None:
    """Shapes of all inputs: those of the signature where they are fixed, else those given; None where one is open."""
    found = tuple(tuple(given.get(port.name, port.shape)) for port in signature.inputs)
    return found if all(isinstance(size, int) for shape in found for size in shape) else None  # type: ignore[return-value]


def fixed(model: Model, shapes: Shapes) -> Model:
    """A fork whose inputs have these shapes, and its values what follows."""
    fork = model.fork()
    forget_inner_shapes(fork.ir)
    inputs = [value for value in fork.graph.inputs if not value.is_initializer()]
    for value, shape in zip(inputs, shapes, strict=True):
        if isinstance(value.type, ir.TensorType):
            value.shape = ir.Shape(shape)
    for value in fork.graph.outputs:
        if value.producer() is not None and value.shape is not None and not value.shape.is_static():
            value.shape = None
    infer_shapes(fork.ir)
    return fork
