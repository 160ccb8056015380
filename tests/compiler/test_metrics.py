import numpy as np
import pytest

from lwc.compiler.core.errors import BadCalibration, UsageError
from lwc.compiler.metrics import cosine_similarity, find_metric, variance_kept

SCORES = {"y": np.array([[0.1, 0.7, 0.2]], np.float32)}


def test_fidelity_of_class_scores_is_agreement_of_argmax() -> None:
    metric = find_metric("fidelity", ("y",))
    assert metric.score is not None
    assert metric.score({"y": np.array([[0.0, 0.4, 0.3]])}, {}, SCORES) == 1.0
    assert metric.score({"y": np.array([[0.5, 0.4, 0.3]])}, {}, SCORES) == 0.0


def test_fidelity_of_values_is_the_share_of_variance_kept() -> None:
    metric = find_metric("fidelity")
    want = {"y": np.random.default_rng(0).normal(size=1000)}
    noisy = {"y": want["y"] + 0.1 * np.random.default_rng(1).normal(size=1000)}
    assert metric.score is not None
    assert metric.score(want, {}, want) == 1.0
    assert metric.score(noisy, {}, want) == pytest.approx(0.99, abs=0.002)


def test_fidelity_of_integers_counts_equal_ones() -> None:
    metric = find_metric("fidelity")
    assert metric.score is not None
    assert metric.score({"y": np.array([1, 2, 3, 4])}, {}, {"y": np.array([1, 2, 3, 5])}) == 0.75


def test_top1_compares_with_the_label() -> None:
    metric = find_metric("top1")
    assert metric.score is not None
    assert metric.score(SCORES, {"label": np.array(1)}, {}) == 1.0
    assert metric.score(SCORES, {"label": np.array([2])}, {}) == 0.0


def test_top1_takes_a_predicted_class_as_it_is() -> None:
    metric = find_metric("top1")
    assert metric.score is not None
    outputs = {"label": np.array([2]), "probabilities": SCORES["y"]}
    assert metric.score(outputs, {"label": np.array(2)}, {}) == 1.0
    assert metric.score({"label": np.array(["cat"], object)}, {"label": np.array(["cat"])}, {}) == 1.0


def test_top1_reads_the_scores_where_the_first_output_is_something_else() -> None:
    metric = find_metric("top1")
    assert metric.score is not None
    lengths = np.array([[3, 4, 5]])
    assert metric.score({"lengths": lengths, **SCORES}, {"label": np.array(1)}, {}) == 1.0


def test_top1_without_labels_says_what_to_do() -> None:
    metric = find_metric("top1")
    assert metric.score is not None
    with pytest.raises(BadCalibration, match="array named 'label'"):
        metric.score(SCORES, {}, {})


def test_nan_where_the_original_has_numbers_is_the_worst_agreement() -> None:
    assert variance_kept(np.ones(4), np.array([1.0, np.nan, 1.0, 1.0])) == -1.0


def test_cosine_of_zeros_is_one_only_for_zeros() -> None:
    assert cosine_similarity(np.zeros(3), np.zeros(3)) == 1.0
    assert cosine_similarity(np.zeros(3), np.ones(3)) == 0.0


def test_a_function_and_a_class_of_the_users_are_metrics() -> None:
    class Count:
        def __init__(self) -> None:
            self.n = 0

        def update(self, outputs: object, sample: object) -> None:
            self.n += 1

        def compute(self) -> float:
            return float(self.n)

    function = find_metric(lambda outputs, sample: 3)
    assert function.score is not None
    assert function.score({}, {}, {}) == 3.0
    assert find_metric(Count).streaming is not None
    assert find_metric("lwc.compiler.metrics:variance_kept").name == "lwc.compiler.metrics:variance_kept"


@pytest.mark.parametrize("metric", ["nonsense", "no.such.module:f", "lwc.compiler.metrics:absent", 3, int])
def test_what_is_no_metric_is_a_usage_error(metric: object) -> None:
    with pytest.raises(UsageError):
        find_metric(metric)
