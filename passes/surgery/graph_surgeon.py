"""Run edits written for onnx-graphsurgeon as a pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx
import onnx_ir as ir

from lwc.compiler.core.digest import digest
from lwc.compiler.core.errors import MissingDependency, UnsupportedOperator, UsageError
from lwc.compiler.core.pass_ import Outcome, Pass, PassContext, Skip, whole_graph
from lwc.passes.canonicalize.lift_constants import LiftConstants, constant_of
from lwc.passes.surgery.reattach import overridable, reattach

# gs.Graph -> gs.Graph, or None when the graph is edited in place
Edit = Callable[[Any], Any]

# Attributes that onnx-graphsurgeon 0.6.1 drops on import, with no more than a warning.
DROPPED = (
    ir.AttributeType.TENSORS, ir.AttributeType.GRAPHS, ir.AttributeType.TYPE_PROTO, ir.AttributeType.TYPE_PROTOS,
    ir.AttributeType.SPARSE_TENSOR, ir.AttributeType.SPARSE_TENSORS,
)  # fmt: skip


@dataclass(frozen=True)
class GraphSurgeonPass(Pass):
    """edit(graph) on the whole model, given as a graph of onnx-graphsurgeon.

    edit: changes the gs.Graph in place, or returns another one. It must leave the model's inputs and outputs.

    What onnx-graphsurgeon 0.6.1 loses is put back: metadata of model, nodes and values (by the names of outputs),
    types and shapes of inputs and outputs, default values of inputs. Constant nodes come as initializers (it makes
    float64 of their `value_float`). The ONNX checker runs on the result; the model
    changes only when all went well. Weights are all read into memory. Scope: main graph, subgraphs and functions.

    Raises MissingDependency; UnsupportedOperator for attributes that onnx-graphsurgeon drops; UsageError for over
    2 GB of weights, an edit that fails or changes inputs or outputs, and a result that is invalid.
    """

    name: ClassVar[str] = "graph-surgeon"
    edit: Edit

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        lost = _lost_attribute(model)
        if lost:
            raise UnsupportedOperator(f"onnx-graphsurgeon would drop {lost}.", "Edit the graph with onnx_ir instead.")
        lifted = _lifted(model, ctx)
        edited = reattach(_edited(self.edit, _proto(lifted)), lifted)
        _check(edited)
        made = ir.from_proto(edited)
        if digest(made) == digest(lifted):
            return Outcome()
        model.graph = made.graph
        model.functions.clear()
        model.functions.update(made.functions)
        return Outcome((whole_graph(model),))


@dataclass(frozen=True)
class FoldWithGraphSurgeon(Pass):
    """gs.Graph.fold_constants, for use at load: it computes constants with ONNX Runtime, of any operator it runs.

    size_threshold: bytes; results that are larger stay nodes. Does nothing, and says why, where onnx-graphsurgeon
    would lose something. Scope: main graph and subgraphs.
    """

    name: ClassVar[str] = "fold-with-graph-surgeon"
    size_threshold: int = 1 << 20

    def run(self, model: ir.Model, ctx: PassContext) -> Outcome:
        try:
            return GraphSurgeonPass(self._fold).run(model, ctx)
        except (UnsupportedOperator, UsageError) as error:
            return Outcome(skipped=(Skip(whole_graph(model), error.message),))

    def _fold(self, graph: Any) -> Any:
        folded = graph.fold_constants(size_threshold=self.size_threshold, recurse_functions=False)
        return folded.cleanup(remove_unused_graph_inputs=False).toposort()


def _lost_attribute(model: ir.Model) -> str:
    nodes = [*model.graph.all_nodes(), *(node for f in model.functions.values() for node in f.all_nodes())]
    for node in nodes:
        for attribute in node.attributes.values():
            if attribute.type in DROPPED:
                return f"attribute '{attribute.name}' of node '{node.name}'"
    return ""


def _lifted(model: ir.Model, ctx: PassContext) -> ir.Model:
    """A fork whose constants are initializers or, as outputs of a graph, at least tensors."""
    fork = model.clone()
    LiftConstants().run(fork, ctx)
    for node in fork.graph.all_nodes():
        tensor = constant_of(node)
        if tensor is not None:
            node.attributes.clear()
            node.attributes["value"] = ir.AttrTensor("value", tensor)
    return fork


def _proto(model: ir.Model) -> onnx.ModelProto:
    try:
        proto = ir.to_proto(model)
        proto.ByteSize()
    except Exception as error:  # protobuf has no one class for messages that are too large
        raise UsageError(f"The model does not fit into one protobuf for onnx-graphsurgeon ({error}).") from error
    held = overridable(model)
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in held]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto


def _edited(edit: Edit, proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        import onnx_graphsurgeon as gs
    except ImportError as error:
        raise MissingDependency("This pass needs onnx-graphsurgeon.", "pip install onnx-graphsurgeon") from error
    try:
        with gs.logger.G_LOGGER.suppress():  # it prints; errors come as exceptions anyway
            graph = gs.import_onnx(proto)
            returned = edit(graph)
            made: onnx.ModelProto = gs.export_onnx(graph if returned is None else returned)
            return made
    except Exception as error:
        raise UsageError(f"The onnx-graphsurgeon edit failed: {type(error).__name__}: {error}") from error


def _check(proto: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise UsageError(f"The onnx-graphsurgeon edit left an invalid graph: {error}") from error
