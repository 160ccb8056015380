import math

import onnx

from lwc.compiler.assemble import site_reports
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Float, Plan, Site, StaticInt8
from lwc.compiler.search.revert import Revert
from lwc.compiler.search.space import Option, Space

SITE = Site("product", "MatMul", "weight")


def reason(float_ms: float, int8_ms: float) -> str:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[5, 6] x, float[6, 4] w) => (float[5, 4] y) '
    model = Model.from_proto(onnx.parser.parse_model(text + "{ [product] y = MatMul (x, w) }"))
    space = Space({SITE: (Option(Float(), float_ms, 0, 0.0), Option(StaticInt8(), int8_ms, 0, 0.1))}, ())
    (line,) = site_reports(model, space, Plan({SITE: StaticInt8()}, {}), ())
    assert (line.macs, line.choice, line.predicted_ms) == (5 * 6 * 4, "int8", int8_ms)
    return line.reason


def test_a_choice_that_is_slower_alone_says_what_it_is_for() -> None:
    assert reason(2.0, 1.0) == "1.000 ms against 2.000 ms in float"
    assert reason(1.0, 2.0) == "2.000 ms against 1.000 ms in float, for fewer crossings or bytes"


def test_a_site_that_was_timed_in_the_whole_model_shows_no_time_of_its_own() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[5, 6] x, float[6, 4] w) => (float[5, 4] y) '
    model = Model.from_proto(onnx.parser.parse_model(text + "{ [product] y = MatMul (x, w) }"))
    space = Space({SITE: tuple(Option(choice, math.nan, 0, 0.1) for choice in (Float(), StaticInt8()))})
    lost = [Revert(SITE, StaticInt8(), reason) for reason in ("slow", "wrong")]
    (kept,) = site_reports(model, space, Plan({SITE: StaticInt8()}, {}), ())
    (given_up,) = site_reports(model, space, Plan(), lost)
    assert (kept.predicted_ms, kept.predicted_loss, kept.reason) == (None, 0.1, "timed in the whole model")
    assert (given_up.choice, given_up.reason) == ("float", "slow; wrong")
