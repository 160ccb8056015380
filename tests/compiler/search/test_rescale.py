"""Scalings are taken where int8 measurably loses less with them, and a plan that holds them makes the same model."""

from typing import Any

import numpy as np
import pytest

from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.benches import workbench
from lwc.compiler.core.errors import BadPlan
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Scaling, Site
from lwc.compiler.core.progress import Silent
from lwc.compiler.decision import rescaled, scaled_by
from lwc.compiler.options import CompileOptions
from lwc.compiler.prepare import Prepared, Timings, prepare
from lwc.compiler.search import rescale
from lwc.compiler.search.decide import Decider, Wanted
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.rescale import clearly_less, scaled
from lwc.compiler.testing import CONTEXT, EXACT, assert_equivalent, parse
from lwc.passes.edit import add_initializer
from lwc.passes.precision.equalize_layers import EqualizeLayers, equalizable
from lwc.passes.precision.scale_channels import ScaleChannels

RNG = np.random.default_rng(0)
SAMPLES = [{"x": RNG.standard_normal((1, 3, 16, 16)).astype(np.float32)} for _ in range(16)]


def two_layers(spread: float) -> Model:
    """A convolution whose channels differ by orders of magnitude, and one that takes that back."""
    model = parse(
        "g (float[1, 3, 16, 16] x) => (float[1, 8, 12, 12] y)"
        " { t = Conv(x, w)\n r = Relu(t)\n s = Conv<group=16>(r, v)\n u = Relu(s)\n y = Conv(u, z) }"
    )
    size = np.exp(spread * RNG.standard_normal(16)).astype(np.float32)
    shapes = {"w": (16, 3, 3, 3), "v": (16, 1, 3, 3), "z": (8, 16, 1, 1)}
    weights = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights["w"] *= size.reshape(-1, 1, 1, 1)
    weights["z"] /= size.reshape(1, -1, 1, 1)
    dangling = {v.name: v for node in model.graph for v in node.inputs if v is not None and v.producer() is None}
    for name, array in weights.items():
        value = dangling[name]
        value.name = None
        value.replace_all_uses_with(add_initializer(model.graph, name, array))
    infer_shapes(model)
    return Model(model, "layers")


def prepared_of(model: Model, **given: Any) -> tuple[Prepared, CompileOptions]:
    options = CompileOptions(calib=SAMPLES, no_cache=True, backend="ort", **given)
    return prepare(model, options, Timings(Silent())), options


def noise(prepared: Prepared) -> float:
    """Of uniform int8, as search measures it."""
    bench = workbench(prepared)
    decider = Decider(bench, Numbers(bench, prepared.search), Wanted("int8"))
    decider.find_sites()
    decider.calibrate()
    return bench.noise(Plan(decider.static_choices(), decider.numbers.ranges), len(bench.samples))


def test_uneven_channels_are_scaled_and_int8_loses_less_while_float_stays_the_same() -> None:
    prepared, options = prepared_of(two_layers(2.5))
    place = rescaled(prepared, options, Timings(Silent()))
    assert place.scalings
    assert place.clean.digest() in place.key
    assert prepared.clean.digest() not in place.key
    assert [node.op_type for node in place.clean.graph] == [node.op_type for node in prepared.clean.graph]
    assert_equivalent(prepared.clean.ir, place.clean.ir, SAMPLES[0], EXACT)
    assert noise(place) < noise(prepared) / 4


def test_channels_that_are_even_stay_as_they_are() -> None:
    prepared, options = prepared_of(two_layers(0.0))
    assert rescaled(prepared, options, Timings(Silent())) is prepared


def test_a_method_that_loses_more_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def worse(model: Model, trial: rescale.Rescaler) -> tuple[Scaling, ...]:
        node = next(node for node in model.graph if node.op_type == "Conv")
        spread = tuple(np.exp(3 * RNG.standard_normal(16)).tolist())
        scalings = (Scaling(Site(node.name or "", "Conv"), spread),)
        ScaleChannels().run(model.ir, PassContext(trial.bench.target, Plan(scalings=scalings)))
        return scalings

    monkeypatch.setattr(rescale, "METHODS", (worse,))
    prepared, options = prepared_of(two_layers(0.0))
    assert rescaled(prepared, options, Timings(Silent())) is prepared


@pytest.mark.parametrize("given", [{"objective": "size"}, {"precision": "fp32"}, {"samples": 3}])
def test_nothing_is_tried_where_nothing_can_come_of_it(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescale, "METHODS", ())
    monkeypatch.setattr(rescale.Rescaler, "_tried", lambda self: pytest.fail("tried"))
    prepared, options = prepared_of(two_layers(2.5), **given)
    assert rescaled(prepared, options, Timings(Silent())) is prepared


def test_a_plan_gives_the_scaled_model_back_to_the_bit() -> None:
    prepared, options = prepared_of(two_layers(2.5))
    place = rescaled(prepared, options, Timings(Silent()))
    read = Plan.from_json(Plan(scalings=place.scalings).to_json())
    assert read.scalings == place.scalings
    assert scaled_by(prepared, read.scalings).clean.digest() == place.clean.digest()


def test_what_a_pass_reports_makes_the_model_that_it_made() -> None:
    model, target = two_layers(2.5), CONTEXT.target
    for index, node in enumerate(model.graph):
        node.name = f"n{index}"
    fork = model.fork()
    done = EqualizeLayers(equalizable(fork.ir), powers_of_two=False).scale(fork.ir, PassContext(target))
    assert len(done.scalings) == 2
    assert scaled(model, done.scalings, target).digest() == fork.digest()


@pytest.mark.parametrize(
    ("scale", "shift", "reason"),
    [
        ((1.0, 2.0), (), "has 16 channels"),
        ((0.0,) * 16, (), "not positive"),
        ((1.0,) * 16, (1.0,) * 16, "takes no shift"),
    ],
)
def test_a_scaling_that_does_not_fit_is_refused(
    scale: tuple[float, ...], shift: tuple[float, ...], reason: str
) -> None:
    prepared, _ = prepared_of(two_layers(1.0))
    name = next(node.name for node in prepared.clean.graph if node.op_type == "Conv")
    with pytest.raises(BadPlan, match=reason):
        scaled(prepared.clean, (Scaling(Site(name or "", "Conv"), scale, shift),), prepared.target)


def test_luck_is_told_from_gain() -> None:
    before = np.full(8, 1e-2)
    assert clearly_less(before / 2, before)
    assert not clearly_less(before * 0.95, before)
    assert not clearly_less(before * 2, before)
    lucky = before.copy()
    lucky[0] = 1e-5  # one sample of eight
    assert not clearly_less(lucky, before)
    assert not clearly_less(np.full(8, 1e-9), np.full(8, 1e-7))
