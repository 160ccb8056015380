"""What no runtime reads, left out where size counts: notes of exporters, and names that nobody asks for.

PyTorch's exporter writes a stack trace of Python at each node, a fifth of silero-vad's file; TensorFlow's writes names
of a hundred letters, a third of basic-pitch's. Kept are the names of inputs, outputs and nodes that the plan speaks
of, what lwc noted itself, and all that is said of the model as a whole. Scope: main graph and subgraphs; functions
stay as they are.
"""

from __future__ import annotations

import copy
import itertools
import string
from collections.abc import Collection, Iterator

import onnx_ir as ir

from lwc.compiler.core.model import Model

OWN = "lwc."  # what keys of lwc's own notes begin with
_LETTERS = string.ascii_letters + "_"


def slimmed(model: Model, kept: Collection[str]) -> Model:
    """A fork without such notes, values and nodes with the shortest names or none.  kept: names of nodes that stay"""
    fork = model.fork()
    graph = fork.graph
    fixed = {*graph.inputs, *graph.outputs}
    taken = {*kept, *(value.name or "" for value in fixed)}
    values = [value for value in _values(graph) if value not in fixed]
    for value in values:
        value.const_value = copy.copy(value.const_value)  # its name is the value's, and forks share it
    # Twice, as initializers lie in their graph by name: the last ones must not meet an old one.
    _name(values, taken | {value.name or "" for value in values})
    _name(values, taken)
    for part in (graph, *graph.subgraphs()):
        _forget_notes(part)
        outer = {*part.inputs, *part.outputs}
        for node in part:
            node.name = node.name if node.name in kept else None
        made = (value for node in part for value in node.outputs)
        for value in (*part.initializers.values(), *made):
            if value not in outer:
                value.type = value.shape = None
    return fork


def _values(graph: ir.Graph) -> list[ir.Value]:
    """Values of the graph and its subgraphs that have a name: initializers, formal inputs, results of nodes."""
    found: dict[ir.Value, None] = {}
    for part in (graph, *graph.subgraphs()):
        found.update(dict.fromkeys((*part.inputs, *part.initializers.values())))
        found.update(dict.fromkeys(value for node in part for value in node.outputs if value.name))
    return list(found)


def _name(values: Collection[ir.Value], taken: Collection[str]) -> None:
    for value, name in zip(values, _names(taken), strict=False):
        value.name = name


def _names(taken: Collection[str]) -> Iterator[str]:
    """The shortest names that are not taken, forever."""
    every = (itertools.product(_LETTERS, repeat=length) for length in itertools.count(1))
    return (name for name in map("".join, itertools.chain.from_iterable(every)) if name not in taken)


def _forget_notes(graph: ir.Graph) -> None:
    graph.doc_string = None
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    for noted in (*graph, *values):
        noted.doc_string = None
        for key in [key for key in noted.metadata_props if not key.startswith(OWN)]:
            del noted.metadata_props[key]
