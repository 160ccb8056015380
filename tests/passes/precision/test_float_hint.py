from dataclasses import replace

import pytest

from lwc.compiler.core.digest import digest
from lwc.compiler.core.float_format import float_format
from lwc.compiler.core.pass_ import Pass, PassContext
from lwc.compiler.core.plan import BFloat16, Choice, Float, Float16, Plan, Site, StaticInt8
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import assert_keeps_promises, parse
from lwc.passes.precision.mark_bfloat16 import MarkBFloat16
from lwc.passes.precision.mark_float16 import MarkFloat16

TEXT = "agraph (float[2,4] x) => (float[2,4] y) { [sine] t = Sin (x)\n [cosine] y = Cos (t) }"
BY_HINT = replace(NAMED["cpu:x86-64-v4"], bf16_by_hint=True, fp16_by_hint=True)
SINE, COSINE, GHOST = Site("sine", "Sin"), Site("cosine", "Cos"), Site("ghost", "Sin")


@pytest.mark.parametrize(("rewrite", "choice"), [(MarkBFloat16(), BFloat16()), (MarkFloat16(), Float16())])
def test_one_site_marks_the_model_and_leaves_its_graph(rewrite: Pass, choice: Choice) -> None:
    model = parse(TEXT)
    before = digest(model)
    assert_keeps_promises(model, rewrite, PassContext(BY_HINT, Plan({SINE: choice})))
    assert float_format(model) == choice.name
    assert digest(model) == before


def test_the_mark_travels_with_a_clone() -> None:
    model = parse(TEXT)
    MarkBFloat16().run(model, PassContext(BY_HINT, Plan({SINE: BFloat16()})))
    assert float_format(model.clone()) == "bf16"


def test_plan_without_bfloat16_marks_nothing() -> None:
    model = parse(TEXT)
    MarkBFloat16().run(model, PassContext(BY_HINT, Plan({SINE: Float()})))
    assert float_format(model) == ""


def test_target_with_types_is_left_to_casts() -> None:
    model = parse(TEXT)
    ctx = PassContext(NAMED["cpu:x86-64-v4"], Plan({SINE: BFloat16(), COSINE: Float16()}))
    MarkBFloat16().run(model, ctx)
    MarkFloat16().run(model, ctx)
    assert float_format(model) == ""


def test_second_format_is_skipped_with_a_reason() -> None:
    model = parse(TEXT)
    ctx = PassContext(BY_HINT, Plan({SINE: BFloat16(), COSINE: Float16()}))
    MarkFloat16().run(model, ctx)
    outcome = MarkBFloat16().run(model, ctx)
    assert float_format(model) == "fp16"
    assert [(skip.site, skip.reason) for skip in outcome.skipped] == [(SINE, "the whole model runs in fp16 already")]


def test_absent_site_is_skipped_with_a_reason() -> None:
    model = parse(TEXT)
    outcome = MarkBFloat16().run(model, PassContext(BY_HINT, Plan({GHOST: BFloat16()})))
    assert float_format(model) == ""
    assert [(skip.site, skip.reason) for skip in outcome.skipped] == [
        (GHOST, "the main graph has no node of this name")
    ]


def test_float16_does_not_go_with_int8() -> None:
    model = parse(TEXT)
    plan = Plan({SINE: Float16(), COSINE: StaticInt8()})
    outcome = MarkFloat16().run(model, PassContext(BY_HINT, plan))
    assert float_format(model) == ""
    assert [skip.site for skip in outcome.skipped] == [SINE]


def test_float16_does_not_go_with_a_model_that_came_quantized() -> None:
    model = parse("""agraph (float[2,4] x) => (float[2,4] y) <float s = {0.1}, uint8 z = {0}> {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        [sine] y = Sin (d)
    }""")
    MarkFloat16().run(model, PassContext(BY_HINT, Plan({SINE: Float16()})))
    assert float_format(model) == ""
