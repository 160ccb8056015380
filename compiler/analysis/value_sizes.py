"""Sizes of a model's values for given inputs, by shape inference alone."""

from __future__ import annotations

import contextlib
import math

from lwc.compiler.analysis.shapes import fix_dimensions
from lwc.compiler.core.backend import Feeds
from lwc.compiler.core.errors import LwcError
from lwc.compiler.core.model import Model


def sized_for(model: Model, feeds: Feeds) -> Model:
    """A fork whose inputs have the shapes of the feeds, and its values what follows; other arrays (labels) are left."""
    fork = model.fork()
    inputs = {value.name for value in fork.graph.inputs if value.name not in fork.graph.initializers}
    # Feeds whose sizes contradict the symbols of the model may still run.
    with contextlib.suppress(LwcError):
        fix_dimensions(fork.ir, {name: array.shape for name, array in feeds.items() if name in inputs})
    return fork


def value_sizes(model: Model, feeds: Feeds) -> dict[str, int]:
    """Bytes of every node output of the main graph whose shape follows from the feeds' shapes."""
    values = [value for node in sized_for(model, feeds).graph for value in node.outputs]
    return {
        value.name: int(math.prod(value.shape.numpy()) * value.dtype.itemsize)
        for value in values
        if value.name and value.dtype is not None and value.shape is not None and value.shape.is_static()
    }
