from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lwc.compiler.core.cache import Cache
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Float, Plan, Weight8
from lwc.compiler.search import sensitivity
from lwc.compiler.search.job import Change
from lwc.compiler.search.local import LocalRuns, first_samples, relative_noise
from lwc.compiler.search.numbers import Numbers
from lwc.compiler.search.partial import PartialRuns
from lwc.compiler.search.rounding import gram_sources
from lwc.compiler.search.sensitivity import layer_losses, layers_suffice, losses_of, measured_losses
from lwc.models import digits, structures

CNN = Path(structures.__file__).parent / "digits_cnn.onnx"


class Stops:
    """Measures so many changes, then is killed."""

    def __init__(self, job: Any, most: int) -> None:
        self.runs = PartialRuns(job)
        self.most = most
        self.asked = 0

    def losses(self, changes: Sequence[Change]) -> Iterator[tuple[Change, float]]:
        self.asked += len(changes)
        for k, found in enumerate(self.runs.losses(changes)):
            if k == self.most:
                raise KeyboardInterrupt
            yield found


@pytest.fixture
def case(case_of: Callable[..., Any], tmp_path: Path) -> Any:
    case = case_of(Model.open(CNN), count=4)
    return replace(case, bench=replace(case.bench, cache=Cache(tmp_path)))


def test_every_site_and_choice_has_a_loss_and_float_has_none(case: Any) -> None:
    losses = measured_losses(case.bench, case.options, case.job.ranges, 4, lambda: None)
    assert list(losses) == [(site, choice) for site, choices in case.options.items() for choice in choices]
    assert all((loss == 0.0) == isinstance(choice, Float) for (_, choice), loss in losses.items())


def test_losses_are_the_noise_that_the_bench_measures(case: Any) -> None:
    losses = measured_losses(case.bench, case.options, case.job.ranges, 4, lambda: None)
    for change in case.changes:
        want = case.bench.noise(Plan(dict(change), case.job.ranges), 4)
        assert losses[change[0]] == pytest.approx(want, rel=1e-2, abs=1e-9)


def test_what_was_measured_before_a_kill_is_not_measured_again(case: Any) -> None:
    first = Stops(case.job, 2)
    with pytest.raises(KeyboardInterrupt):
        losses_of(case.bench, case.options, case.job.ranges, 4, case.changes, evaluator=first)
    told: list[None] = []
    second = Stops(case.job, 99)
    found = losses_of(
        case.bench, case.options, case.job.ranges, 4, case.changes, lambda: told.append(None), evaluator=second
    )
    assert second.asked == len(case.changes) - 2
    assert len(told) == len(case.changes)
    with PartialRuns(case.job) as runs:
        assert found == dict(runs.losses(case.changes))


def test_other_ranges_or_samples_are_measured_anew(case: Any) -> None:
    some = case.changes[:1]
    losses_of(case.bench, case.options, case.job.ranges, 4, some)
    again = Stops(case.job, 99)
    losses_of(case.bench, case.options, case.job.ranges, 3, some, evaluator=again)
    losses_of(case.bench, case.options, {}, 4, some, evaluator=again)
    assert again.asked == 2


@pytest.fixture
def four_bits(case_of: Callable[..., Any]) -> Any:
    """A trained model whose weights are offered in four bits, with Gram matrices of its products' inputs."""
    case = case_of(Model.open(digits.path("transformer")), list(digits.samples("test"))[:32], 8, ("w4",))
    nodes = {node.name or "": node for node in case.bench.model.graph}
    Numbers(case.bench, case.bench.samples).collect_grams(gram_sources(case.options, nodes))
    return case


def test_the_loss_of_a_layer_is_the_error_of_its_own_output(four_bits: Any) -> None:
    losses = layer_losses(four_bits.bench, four_bits.options)
    assert list(losses) == [(site, choice) for site, choices in four_bits.options.items() for choice in choices]
    with closing(LocalRuns(first_samples(four_bits.job, 8))) as local:
        for (site, choice), loss in losses.items():
            if isinstance(choice, Float):
                assert loss == 0.0
            elif site in four_bits.bench.apply.stats:
                found = [relative_noise(y, z) for y, z in local.outputs(site, choice)]
                assert loss == pytest.approx(np.mean(found), rel=0.3)
            else:  # of a constant that is added, by its own numbers
                assert 0.0 < loss < 0.02


def test_a_large_model_of_one_format_is_not_run_for_every_site(
    four_bits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, options = four_bits.bench, four_bits.options
    opened: list[Model] = []
    monkeypatch.setattr(type(bench.backend), "session", lambda self, model, *rest, **more: opened.append(model))
    numbers = Numbers(bench, bench.samples)
    monkeypatch.setattr(sensitivity, "OPEN_BYTES", bench.model.weight_bytes() - 1)
    numbers.measure_losses(options)
    assert not opened
    assert numbers.losses == layer_losses(bench, options)


def test_pages_of_files_are_given_back_after_every_layer(four_bits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(sensitivity, "release_pages", lambda: events.append("released"))
    layer_losses(four_bits.bench, four_bits.options, lambda: events.append("done"))
    assert events == ["released", "done"] * len(four_bits.options)


def test_small_models_and_those_with_several_formats_are_measured(
    four_bits: Any, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = four_bits.options
    assert not layers_suffice(four_bits.bench, options)
    monkeypatch.setattr(sensitivity, "OPEN_BYTES", 0)
    assert layers_suffice(four_bits.bench, options)
    assert not layers_suffice(four_bits.bench, {site: (*found, Weight8()) for site, found in options.items()})
    assert not layers_suffice(case.bench, case.options)
