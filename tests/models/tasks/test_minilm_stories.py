"""Sentences that look for their story."""

from __future__ import annotations

import numpy as np
import pytest

from lwc.models import zoo
from lwc.models.tasks.minilm import POOLED_OUTPUT
from lwc.models.tasks.minilm_stories import halve, halved_stories, metric, reciprocal_rank, samples

EAST, NORTH, WEST = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([-1.0, 0.0])


def test_a_query_whose_target_fits_best_ranks_first() -> None:
    assert reciprocal_rank(np.array([EAST, NORTH]), np.array([EAST, NORTH])) == 1.0


def test_the_rank_counts_targets_that_fit_better() -> None:
    almost_north = np.array([0.1, 0.99])
    ranked = reciprocal_rank(np.array([almost_north, NORTH, WEST]), np.array([WEST, NORTH, EAST]))
    assert ranked == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)


def test_a_target_that_fits_as_well_counts_as_better() -> None:
    assert reciprocal_rank(np.array([NORTH, NORTH]), np.array([EAST, WEST])) == 0.5


def test_sentences_of_one_story_share_one_target() -> None:
    queries, targets = np.array([EAST, EAST, NORTH]), np.array([EAST, EAST, NORTH])
    assert reciprocal_rank(queries, targets) == 1.0


def test_an_embedding_that_is_no_number_ranks_last() -> None:
    queries = np.array([[np.nan, np.nan], NORTH])
    assert reciprocal_rank(queries, np.array([EAST, NORTH])) == pytest.approx(0.75)


def test_splits_a_story_in_the_middle_and_leaves_out_short_sentences() -> None:
    story = "The first sentence has seven words here. Too short. The third one is there. And so is the fourth."
    assert halve(story) == (
        ("The first sentence has seven words here.",),
        "The third one is there. And so is the fourth.",
    )


def test_a_story_of_three_sentences_is_not_split() -> None:
    assert halve("One here. Two here. Three here.") is None


def test_the_metric_gathers_samples_one_by_one() -> None:
    gathered = metric()
    assert gathered.compute() == 0.0
    for query, target in ((EAST, EAST), (EAST, NORTH)):
        gathered.update({POOLED_OUTPUT: 2.0 * query[np.newaxis]}, {"target": target.astype(np.float32)})
    assert gathered.compute() == 0.75


@pytest.mark.zoo
def test_the_packaged_stories_have_two_halves() -> None:
    stories = halved_stories()
    assert len(stories) > 250
    assert all(second for _, second in stories)


@pytest.mark.zoo
def test_the_real_model_finds_the_stories() -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(zoo.path("minilm-l3"), providers=["CPUExecutionProvider"])
    gathered = metric()
    for sample in samples(100, 0, "test"):
        feeds = {name: sample[name] for name in ("input_ids", "attention_mask")}
        gathered.update({POOLED_OUTPUT: session.run([POOLED_OUTPUT], feeds)[0]}, sample)
    assert 0.4 < gathered.compute() < 0.9
