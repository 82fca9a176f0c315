from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as oracle

from resight.errors import DataError, UsageError
from resight.evaluation import read_evaluation
from resight.evaluation.multilabel import (
    MultilabelEvaluation,
    binary_log_loss,
    evaluate_multilabel,
    fit_temperature,
    fit_thresholds,
    given,
    mean_average_precision,
    pairs,
    reliability,
    sigmoid,
    subset_accuracy,
)

CLASSES = tuple("abcdef")
RATES = np.array([0.5, 0.3, 0.2, 0.1, 0.05, 0.4])


def drawn(n: int = 400, seed: int = 0, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets of which sigmoid(logits / sharp) is the true probability, with ties."""
    random = np.random.default_rng(seed)
    true = np.log(RATES / (1 - RATES)) + random.normal(size=(n, len(CLASSES))).round(1) * 2
    return true * sharp, (random.random(true.shape) < sigmoid(true)).astype(np.uint8)


THRESHOLDS = (0.5, 0.4, 0.35, 0.3, 0.2, 0.5)


@pytest.fixture(scope="module")
def found() -> MultilabelEvaluation:
    return evaluate_multilabel(*drawn(), CLASSES, THRESHOLDS, temperature=1.7)


def test_ranking_metrics_are_those_of_scikit_learn(found: MultilabelEvaluation) -> None:
    logits, targets = drawn()
    for name, value in (
        ("map", oracle.average_precision_score(targets, logits, average="macro")),
        ("map_micro", oracle.average_precision_score(targets, sigmoid(logits), average="micro")),
        ("auroc", oracle.roc_auc_score(targets, logits, average="macro")),
    ):
        assert found.metrics[name].value == pytest.approx(value, abs=1e-12)
    assert mean_average_precision(logits, targets) == pytest.approx(found.metrics["map"].value, abs=1e-12)
    for k, result in enumerate(found.per_class):
        assert result.average_precision is not None
        assert result.auroc is not None
        value = oracle.average_precision_score(targets[:, k], logits[:, k])
        assert result.average_precision.value == pytest.approx(value, abs=1e-12)
        assert result.auroc.value == pytest.approx(oracle.roc_auc_score(targets[:, k], logits[:, k]), abs=1e-12)


def test_counting_metrics_are_those_of_scikit_learn(found: MultilabelEvaluation) -> None:
    logits, targets = drawn()
    chosen = given(sigmoid(logits), THRESHOLDS)
    for average in ("macro", "micro"):
        values = oracle.precision_recall_fscore_support(targets, chosen, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True):
            assert found.metrics[f"{average}_{name}"].value == pytest.approx(value, abs=1e-12)
    assert found.metrics["subset_accuracy"].value == pytest.approx(oracle.accuracy_score(targets, chosen), abs=1e-12)
    assert found.metrics["hamming_loss"].value == pytest.approx(oracle.hamming_loss(targets, chosen), abs=1e-12)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(targets, chosen, zero_division=0)
    for k, result in enumerate(found.per_class):
        assert result.precision is not None
        assert result.recall is not None
        assert result.f1 is not None
        assert [result.precision.value, result.recall.value, result.f1.value, result.support] == pytest.approx(
            [precision[k], recall[k], f1[k], support[k]], abs=1e-12
        )
    assert found.base_rate == pytest.approx(targets.mean(), abs=1e-12)
    assert found.labels_per_picture == pytest.approx((targets.sum(1).mean(), chosen.sum(1).mean()), abs=1e-12)
    assert np.array_equal(found.together, targets.T.astype(int) @ chosen.astype(int))


def test_pairs_of_classes_are_counted_exactly() -> None:
    random = np.random.default_rng(3)
    rows, columns = random.random((301, 7)) < 0.5, random.random((301, 4)) < 0.3
    found = pairs(rows, columns)
    assert found.dtype == np.int64
    assert found.tolist() == [[int((rows[:, i] & columns[:, j]).sum()) for j in range(4)] for i in range(7)]


def test_losses_are_those_of_scikit_learn(found: MultilabelEvaluation) -> None:
    logits, targets = drawn()
    chances = sigmoid(logits)
    losses = [oracle.log_loss(targets[:, k], chances[:, k]) for k in range(len(CLASSES))]
    assert found.metrics["log_loss"].value == pytest.approx(np.mean(losses), abs=1e-12)
    assert binary_log_loss(logits, targets) == pytest.approx(np.mean(losses), abs=1e-12)
    briers = [oracle.brier_score_loss(targets[:, k], chances[:, k]) for k in range(len(CLASSES))]
    assert found.metrics["brier"].value == pytest.approx(np.mean(briers), abs=1e-12)
    raw = [oracle.log_loss(targets[:, k], sigmoid(1.7 * logits[:, k])) for k in range(len(CLASSES))]
    assert found.uncalibrated["log_loss"].value == pytest.approx(np.mean(raw), abs=1e-12)


def test_the_calibration_error_is_that_of_all_labels_one_by_one(found: MultilabelEvaluation) -> None:
    logits, targets = drawn()
    flat, own, error = sigmoid(logits).ravel(), targets.ravel(), 0.0
    for b in range(15):
        inside = (flat > b / 15) & (flat <= (b + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(own[inside].mean() - flat[inside].mean())
    assert found.metrics["ece"].value == pytest.approx(error, abs=1e-12)
    assert reliability(sigmoid(logits), targets).error == pytest.approx(error, abs=1e-12)


def test_log_loss_is_exact_where_probabilities_round() -> None:
    assert binary_log_loss([[-800.0]], [[1]]) == 800
    assert binary_log_loss([[800.0]], [[1]]) == 0
    assert sigmoid([-1e4, 0, 1e4]).tolist() == [0, 0.5, 1]


def test_undefined_is_left_out() -> None:
    logits, targets = np.array([[1.0, -1, 2], [2, -2, -1], [3, -3, -2]]), np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0]])
    found = evaluate_multilabel(logits, targets, ["x", "y", "z"], [0.5] * 3)
    everywhere, nowhere, ranked = found.per_class
    assert everywhere.average_precision is None
    assert (nowhere.precision, nowhere.recall, nowhere.f1, nowhere.auroc) == (None, None, None, None)
    assert ranked.average_precision is not None
    assert found.metrics["map"].value == 1  # of the one class that some have and some not
    assert found.base_rate == pytest.approx(1 / 3)
    assert mean_average_precision(logits[:, :2], targets[:, :2]) is None
    empty = evaluate_multilabel([[-1.0], [-2.0]], [[0], [0]], ["x"], [0.5])
    assert not {"map", "auroc", "map_micro", "macro_f1", "micro_f1", "micro_precision"} & set(empty.metrics)
    assert empty.metrics["subset_accuracy"].value == 1
    assert "–" in empty.to_text()


def test_every_interval_holds_its_value(found: MultilabelEvaluation) -> None:
    each = [*found.metrics.values(), *found.uncalibrated.values()]
    for result in found.per_class:
        each += [e for e in (result.precision, result.recall, result.f1, result.auroc, result.average_precision) if e]
    assert all(e.low <= e.value <= e.high for e in each)


def test_intervals_cover_the_truth() -> None:
    """Of 30 samples, 23 intervals or fewer around the truth would happen to a true 95 % three times in 10,000."""
    names = ("map", "map_micro", "auroc", "macro_f1", "micro_f1", "micro_recall", "hamming_loss", "log_loss")
    truth = evaluate_multilabel(*drawn(40_000, 999), CLASSES, THRESHOLDS).metrics
    hits = dict.fromkeys(names, 0)
    for seed in range(30):
        found = evaluate_multilabel(*drawn(150, seed), CLASSES, THRESHOLDS).metrics
        for name in names:
            hits[name] += found[name].low <= truth[name].value <= found[name].high
    assert min(hits.values()) >= 24, hits


def test_a_perfect_score_has_a_width() -> None:
    targets = (np.random.default_rng(0).random((40, 3)) < 0.4).astype(np.uint8)
    found = evaluate_multilabel(8.0 * targets - 4, targets, ["x", "y", "z"], [0.5] * 3)
    for name in ("map", "map_micro", "macro_f1", "micro_precision", "subset_accuracy"):
        assert found.metrics[name].value == 1
        assert 0.5 < found.metrics[name].low < 0.99


def test_stored_and_read_again(found: MultilabelEvaluation) -> None:
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    again = read_evaluation(stored)
    assert isinstance(again, MultilabelEvaluation)
    assert again.to_dict() == found.to_dict()
    assert again.to_text() == found.to_text()
    del stored["together"]
    with pytest.raises(DataError, match="not a stored multi-label evaluation"):
        read_evaluation(stored)


def test_the_text_shows_the_weakest_classes(found: MultilabelEvaluation) -> None:
    text = found.to_text(max_classes=2)
    assert "mAP, mean of classes" in text
    assert "4 more are not shown" in text
    weakest = min(found.per_class, key=lambda r: r.average_precision.value if r.average_precision else 1)
    assert any(line.startswith(f"{weakest.name}  ") for line in text.splitlines())


@pytest.mark.parametrize("sharp", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_sharpening(sharp: float) -> None:
    logits, targets = drawn(20_000, 1, sharp)
    fitted = fit_temperature(logits, targets)
    assert fitted == pytest.approx(sharp, rel=0.03)
    losses = [binary_log_loss(logits / t, targets) for t in (fitted, fitted * 1.02, fitted / 1.02)]
    assert losses[0] == min(losses)


def test_temperatures_of_logits_that_say_all_or_nothing() -> None:
    targets = np.eye(6, dtype=np.uint8)
    assert fit_temperature(np.zeros((6, 6)), targets) == 1
    assert fit_temperature(4 - 8.0 * targets, targets) == 20
    assert 0.05 <= fit_temperature(8.0 * targets - 4, targets) < 4


def slow_threshold(chances: np.ndarray, own: np.ndarray) -> float:
    """The best F1 over all thresholds."""
    return max(float(oracle.f1_score(own, chances >= cut, zero_division=0)) for cut in [*np.unique(chances), 2])


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_have_the_best_f1(seed: int) -> None:
    logits, targets = drawn(150, seed)
    chances = sigmoid(logits).astype(np.float32)
    for k, threshold in enumerate(fit_thresholds(chances, targets)):
        own = targets[:, k]
        assert threshold.positives == own.sum()
        if own.sum() < 10:
            assert (threshold.value, threshold.fitted) == (0.5, False)
            continue
        assert threshold.fitted
        assert threshold.value not in chances[:, k]
        assert float(np.float32(threshold.value)) == threshold.value
        reached = oracle.f1_score(own, chances[:, k] >= threshold.value)
        assert reached == pytest.approx(slow_threshold(chances[:, k], own), abs=1e-12)


def test_of_equally_good_thresholds_the_one_in_the_middle() -> None:
    own = np.arange(40)[:, None] < 20
    chances = np.where(own, 0.9, 0.2)
    assert fit_thresholds(chances, own)[0].value == pytest.approx(0.55)
    assert not fit_thresholds(chances, np.ones_like(own))[0].fitted


def test_subset_accuracy() -> None:
    assert subset_accuracy([[1, 0], [1, 1], [0, 0]], [[1, 0], [1, 0], [0, 0]]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: evaluate_multilabel([[1.0, 2]], [[1, 0]], ["a"], [0.5]), UsageError, "1 class names and 1 thresholds"),
        (lambda: evaluate_multilabel([[1.0]], [[1]], ["a"], [0.5], temperature=0), UsageError, "above 0"),
        (lambda: evaluate_multilabel([[np.nan]], [[1]], ["a"], [0.5]), DataError, "not finite"),
        (lambda: evaluate_multilabel(np.zeros((0, 1)), np.zeros((0, 1)), ["a"], [0.5]), DataError, "no pictures"),
        (lambda: evaluate_multilabel([[1.0]], [[2]], ["a"], [0.5]), DataError, "0 or 1"),
        (lambda: evaluate_multilabel([[1.0]], [1], ["a"], [0.5]), UsageError, "do not fit"),
    ],
)
def test_wrong_arguments(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
