from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import StaticInt8
from lwc.compiler.search.job import Change
from lwc.compiler.search.partial import PartialRuns
from lwc.models import structures, tiny

MODELS = Path(structures.__file__).parent
# Of a loss: code flips where float32 rounds otherwise;  and of float32's own noise.
RELATIVE, ABSOLUTE = 2e-2, 1e-9

GRAPHS = (
    "residual_block", "encoder_block", "attention_block_masked", "swiglu", "gelu_tanh_decomposed",
    "if_captures_computed", "if_nested", "function_used_twice", "recognizer", "shared_weight", "weight_is_output",
    "duplicate_subexpression", "constant_of_shape", "matmul_dynamic_int8", "scalars", "rep_vgg_block",
    "float16_weight", "opset_7", "zero_size_concat", "channel_shuffle", "squeeze_excite", "dense_block",
    "residual_downsample", "conv_grouped",
)  # fmt: skip


def tiny_model(name: str) -> tuple[Model, list[Any]]:
    model = Model(tiny.all_graphs()[name](), name)
    return model, [tiny.feeds(model.ir, seed=seed) for seed in range(8)]


def assert_equal_to_whole_model(runs: PartialRuns, changes: list[Change]) -> None:
    for change in changes:
        want, got = runs.whole_model_loss(change), runs.loss(change)
        assert abs(got - want) <= RELATIVE * want + ABSOLUTE, change


@pytest.mark.parametrize("name", GRAPHS)
def test_losses_are_those_of_running_the_whole_model(name: str, case_of: Callable[..., Any]) -> None:
    model, samples = tiny_model(name)
    case = case_of(model, samples, 4, ("int8", "int8-dynamic"))
    assert case.changes
    with PartialRuns(case.job, sites_per_segment=1) as runs:
        assert_equal_to_whole_model(runs, case.changes)


def test_a_transformer_is_cut_into_segments_and_batched(case_of: Callable[..., Any]) -> None:
    case = case_of(Model.open(MODELS / "digits_transformer.onnx"), precisions=("int8", "int8-dynamic"))
    assert [len(run.samples) for run in case.job.runs] == [6]
    with PartialRuns(case.job, sites_per_segment=3) as runs:
        assert len(runs.cuts.segments) > 4
        assert_equal_to_whole_model(runs, case.changes)


def test_samples_of_many_shapes_run_with_those_of_their_own(case_of: Callable[..., Any]) -> None:
    model, _ = tiny_model("encoder_block")
    shape = [dim if isinstance(dim, int) else 1 for dim in model.graph.inputs[0].shape or ()]
    rng = np.random.default_rng(0)
    lengths = (4, 6, 6, 3, 6, 4, 3, 6, 6, 4)
    samples = [{"x": rng.standard_normal((shape[0], length, shape[2])).astype(np.float32)} for length in lengths]
    case = case_of(model, samples, 5)
    sizes = [len(run.samples) for run in case.job.runs]
    assert max(sizes) > 1
    assert len(sizes) > 1
    with PartialRuns(case.job, sites_per_segment=2) as runs:
        refused = []
        runs.whole_model_loss, whole = refused.append, runs.whole_model_loss  # type: ignore[method-assign, assignment]
        losses = dict(runs.losses(case.changes))
        assert not refused
        for change, loss in losses.items():
            assert abs(loss - whole(change)) <= RELATIVE * loss + ABSOLUTE


def test_a_recurrent_model_gives_the_same_losses(case_of: Callable[..., Any]) -> None:
    case = case_of(Model.open(MODELS / "digits_gru.onnx"))
    with PartialRuns(case.job, sites_per_segment=1) as runs:
        assert_equal_to_whole_model(runs, case.changes)


def test_a_network_of_a_fixed_batch_runs_samples_together(case_of: Callable[..., Any]) -> None:
    case = case_of(Model.from_proto(structures.mobilenet_v2(size=32), "mobilenet"), count=4)
    assert [len(run.samples) for run in case.job.runs] == [4]
    with PartialRuns(case.job) as runs:
        assert_equal_to_whole_model(runs, case.changes[::7])


def test_nothing_is_run_on_the_whole_model_when_it_can_be_cut(
    case_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: PartialRuns, change: Change) -> float:
        raise AssertionError(f"whole model for {change}")

    monkeypatch.setattr(PartialRuns, "whole_model_loss", refuse)
    for name in ("residual_block", "encoder_block", "if_captures_computed", "recognizer"):
        model, samples = tiny_model(name)
        case = case_of(model, samples, 4)
        with PartialRuns(case.job, sites_per_segment=1) as runs:
            assert len(dict(runs.losses(case.changes))) == len(case.changes)


def test_losses_do_not_depend_on_order_threads_or_what_else_is_asked(case_of: Callable[..., Any]) -> None:
    case = case_of(Model.open(MODELS / "digits_transformer.onnx"), count=10)
    with PartialRuns(case.job, sites_per_segment=3) as runs:
        forward = dict(runs.losses(case.changes))
    with PartialRuns(replace(case.job, threads=3), sites_per_segment=3) as runs:
        backward = {change: runs.loss(change) for change in reversed(case.changes[::4])}
    assert backward == {change: forward[change] for change in backward}


def test_activations_beyond_the_memory_bound_lie_on_disk_and_change_nothing(case_of: Callable[..., Any]) -> None:
    case = case_of(Model.open(MODELS / "digits_gru.onnx"))
    with PartialRuns(case.job, sites_per_segment=1) as runs:
        in_memory = dict(runs.losses(case.changes))
    with PartialRuns(replace(case.job, max_memory_bytes=1), sites_per_segment=1) as runs:
        assert dict(runs.losses(case.changes)) == in_memory


def test_two_sites_are_changed_together_across_segments(case_of: Callable[..., Any]) -> None:
    case = case_of(Model.open(MODELS / "digits_transformer.onnx"))
    sites = list(case.options)
    pairs: list[Change] = [
        ((a, StaticInt8()), (b, StaticInt8())) for a, b in zip(sites[::6], sites[2::6], strict=False)
    ]
    with PartialRuns(case.job, sites_per_segment=2) as runs:
        assert any(len({runs.cuts.segment_of(site) for site, _ in pair}) > 1 for pair in pairs)
        assert_equal_to_whole_model(runs, pairs)


def test_a_range_found_at_run_time_is_that_of_each_sample(case_of: Callable[..., Any]) -> None:
    """Samples of very different size: a range of the whole batch would lose far more on the small ones."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("a", (8, 16)), ("b", (16, 4)))
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])],
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        weights,
    )
    model = Model.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    samples = [{"x": rng.standard_normal((2, 8)).astype(np.float32) * 10.0**k} for k in range(8)]
    case = case_of(model, samples, 4, ("int8-dynamic",))
    assert [len(run.samples) for run in case.job.runs] == [4]
    with PartialRuns(case.job, sites_per_segment=1) as runs:
        assert_equal_to_whole_model(runs, case.changes)
