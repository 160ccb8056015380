from dataclasses import replace

from lwc.compiler.core.digest import digest
from lwc.compiler.core.float_format import float_format
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import BFloat16, Float, Plan, Site
from lwc.compiler.core.target import NAMED
from lwc.compiler.testing import assert_keeps_promises, parse
from lwc.passes.precision.mark_bfloat16 import MarkBFloat16

TEXT = "agraph (float[2,4] x) => (float[2,4] y) { [sine] t = Sin (x)\n [cosine] y = Cos (t) }"
BY_HINT = replace(NAMED["cpu:x86-64-v4"], bf16_by_hint=True)
SINE, GHOST = Site("sine", "Sin"), Site("ghost", "Sin")


def test_one_site_marks_the_model_and_leaves_its_graph() -> None:
    model = parse(TEXT)
    before = digest(model)
    assert_keeps_promises(model, MarkBFloat16(), PassContext(BY_HINT, Plan({SINE: BFloat16()})))
    assert float_format(model) == "bf16"
    assert digest(model) == before


def test_the_mark_travels_with_a_clone() -> None:
    model = parse(TEXT)
    MarkBFloat16().run(model, PassContext(BY_HINT, Plan({SINE: BFloat16()})))
    assert float_format(model.clone()) == "bf16"


def test_plan_without_bfloat16_marks_nothing() -> None:
    model = parse(TEXT)
    MarkBFloat16().run(model, PassContext(BY_HINT, Plan({SINE: Float()})))
    assert float_format(model) == ""


def test_target_with_bfloat16_types_is_left_to_casts() -> None:
    model = parse(TEXT)
    MarkBFloat16().run(model, PassContext(NAMED["cpu:x86-64-v4"], Plan({SINE: BFloat16()})))
    assert float_format(model) == ""


def test_absent_site_is_skipped_with_a_reason() -> None:
    model = parse(TEXT)
    outcome = MarkBFloat16().run(model, PassContext(BY_HINT, Plan({GHOST: BFloat16()})))
    assert float_format(model) == ""
    assert [(skip.site, skip.reason) for skip in outcome.skipped] == [
        (GHOST, "the main graph has no node of this name")
    ]
