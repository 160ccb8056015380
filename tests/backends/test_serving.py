from pathlib import Path

import onnx
import pytest

from lwc.backends import serving
from lwc.backends.serving import blame, handed_over
from lwc.compiler.core.errors import BadInput, UnsupportedOperator
from lwc.compiler.core.model import Model

CHAIN = "agraph (float[4] x) => (float[4] y) <float[4] w = {1,2,3,4}> { [product] t = Mul (x, w)\n [sine] y = Sin (t) }"


def chain() -> Model:
    return Model.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{CHAIN}'))


def test_small_model_is_handed_over_as_bytes() -> None:
    with handed_over(chain()) as source:
        assert isinstance(source, bytes)
        assert onnx.load_from_string(source).graph.node[0].name == "product"


def test_large_model_is_a_file_as_long_as_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IN_MEMORY_BYTES", 8)
    with handed_over(chain()) as source:
        assert isinstance(source, Path)
        assert onnx.load(source).graph.node[0].name == "product"
    assert not source.exists()


def test_blame_falls_on_the_named_node() -> None:
    assert list(blame(chain(), BadInput("node 'sine' is odd."))) == ["sine"]


def test_blame_falls_on_all_nodes_of_an_unknown_operator() -> None:
    assert list(blame(chain(), UnsupportedOperator("no operator 'Mul'."))) == ["product"]


def test_blame_falls_on_the_model_when_nothing_is_named() -> None:
    assert list(blame(chain(), BadInput("something is odd."))) == ["model"]
