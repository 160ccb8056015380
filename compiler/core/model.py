"""A model in memory: the onnx_ir graph, where it came from, and its digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir

from lwc.compiler.core.digest import digest
from lwc.compiler.core.storage import read_model, write_model

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Model:
    """An ONNX model that passes rewrite in place and search forks freely.

    ir: the graph (tensors are shared between forks: replace them, never write into them)
    name: what reports and errors call it;  source: the file it was read from, if any
    """

    ir: onnx_ir.Model
    name: str
    source: Path | None = None

    @staticmethod
    def open(path: str | Path) -> Model:
        """Read and check an ONNX file; external data stay on disk until used.

        Raises NotAModel, InvalidGraph, BadExternalData, UnsupportedOpset.
        """
        path = Path(path)
        return Model(read_model(path), path.stem, path)

    @staticmethod
    def from_proto(proto: onnx.ModelProto, name: str = "model") -> Model:
        """Wrap a ModelProto that is in memory, unchecked."""
        return Model(onnx_ir.from_proto(proto), name)

    def to_proto(self) -> onnx.ModelProto:
        """The model as protobuf, weights included (raises ValueError over 2 GB when serialized)."""
        return onnx_ir.to_proto(self.ir)

    def save(self, path: str | Path, *, external_data: bool = False) -> None:
        """Write to `path`, aside first and renamed into place.

        Weights go to `<path>.data` when asked, or when the file would pass 2 GB.
        """
        write_model(self.ir, Path(path), external_data=external_data)

    def fork(self) -> Model:
        """A copy whose graph can be changed freely; costs O(nodes), tensors are shared."""
        return Model(self.ir.clone(), self.name, self.source)

    def digest(self) -> str:
        """Equal for equal computations: ignores node order and the names of temporaries."""
        return digest(self.ir)

    @property
    def graph(self) -> onnx_ir.Graph:
        return self.ir.graph

    @property
    def opset(self) -> int:
        """Version of the standard domain (0 when the model does not import it)."""
        return self.ir.opset_imports.get("", 0)

    def by_name(self) -> dict[str, onnx_ir.Node]:
        """Name -> node of the main graph; nodes without a name under the empty one."""
        return {node.name or "": node for node in self.graph}

    def nodes(self) -> Iterator[onnx_ir.Node]:
        """All nodes, those of subgraphs included, functions excluded."""
        yield from self.ir.graph.all_nodes()

    def weight_bytes(self) -> int:
        """Bytes of all weights of the graph and its subgraphs, as in a file: of a tensor under two names both count."""
        return sum(
            value.const_value.nbytes
            for graph in self.ir.graphs()
            for value in graph.initializers.values()
            if value.const_value is not None
        )

    def parameters(self) -> int:
        """How many weight values the graph and its subgraphs hold."""
        return sum(
            value.const_value.size
            for graph in self.ir.graphs()
            for value in graph.initializers.values()
            if value.const_value is not None
        )
