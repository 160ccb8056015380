import pytest

pytest.importorskip("openvino")

from lwc.backends.openvino.errors import convert
from lwc.compiler.core.errors import BadInput, UnsupportedOperator

PLACE = "Exception from src/inference/src/cpp/core.cpp:105:\nCheck 'false' failed at src/frontends/report.cpp:151:\n"
NOTHING_DONE = f"{PLACE}FrontEnd API failed with OpConversionFailure:\nModel wasn't fully converted."


def test_operators_without_a_rule_are_named() -> None:
    summary = "Summary:\n-- No conversion rule found for operations: acme.Spin, Twist-17\nTo facilitate ...\n"
    found = convert(RuntimeError(f"{NOTHING_DONE}\n{summary}"), "m")
    assert isinstance(found, UnsupportedOperator)
    assert str(found) == "m: OpenVINO cannot run operator 'acme:Spin', 'Twist'."


def test_node_that_cannot_be_converted_is_named_with_the_reason() -> None:
    text = (
        f"{NOTHING_DONE} Failed operations detailed log:\n-- Abs-17 with a message:\n"
        "While validating ONNX node '<Node(Abs): odd>': Check 'ok' failed at src/core/abs.cpp:16:\n"
        "no boolean\n\nSummary:\n-- Conversion is failed for: Abs-17\n\n"
    )
    found = convert(RuntimeError(text), "m")
    assert isinstance(found, UnsupportedOperator)
    assert str(found) == "m: OpenVINO cannot run node 'odd' (Abs): no boolean"


def test_node_that_the_plugin_refuses_is_named() -> None:
    text = f"{PLACE}Unexpected: CPU plug-in doesn't support Reshape operation with dynamic rank. Operation name: odd\n"
    found = convert(RuntimeError(text), "m")
    assert isinstance(found, UnsupportedOperator)
    assert "'odd' (Reshape)" in str(found)


def test_anything_else_is_bad_input_on_one_line() -> None:
    found = convert(RuntimeError(f"{PLACE}Something\nelse.\n"), "m")
    assert type(found) is BadInput
    assert str(found) == "m: OpenVINO failed: Something else."
