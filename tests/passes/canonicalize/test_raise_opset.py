"""The pass raises what is older and leaves the rest."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from onnx import parser

from lwc.compiler.core.errors import UnsupportedOpset
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.target import NAMED
from lwc.passes.canonicalize.raise_opset import RaiseOpset

CONTEXT = PassContext(NAMED["cpu:x86-64-v4"])


def model(opset: int, body: str) -> ir.Model:
    return ir.from_proto(
        parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[2, 3] x) => (float[N, M] y) {{ {body} }}'
        )
    )


def test_raises_an_older_model_and_says_so() -> None:
    graph = model(11, "a = Unsqueeze <axes = [0]> (x) y = Squeeze <axes = [0]> (a)")
    outcome = RaiseOpset(13).run(graph, CONTEXT)
    assert outcome.changed
    assert graph.opset_imports == {"": 13}
    assert [len(node.inputs) for node in graph.graph] == [2, 2]


def test_a_second_run_changes_nothing() -> None:
    graph = model(11, "y = Softmax(x)")
    RaiseOpset(13).run(graph, CONTEXT)
    assert not RaiseOpset(13).run(graph, CONTEXT).changed


def test_leaves_a_newer_model() -> None:
    graph = model(17, "y = Softmax(x)")
    assert not RaiseOpset(13).run(graph, CONTEXT).changed
    assert graph.opset_imports == {"": 17}


def test_refuses_a_node_without_an_equal() -> None:
    graph = model(5, 'y = Cast <to = "FLOAT"> (x)')
    with pytest.raises(UnsupportedOpset, match="cannot be raised from opset 5 to 6"):
        RaiseOpset(13).run(graph, CONTEXT)
