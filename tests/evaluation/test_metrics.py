"""Every metric against scikit-learn's, to 1e-12."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resight import evaluation
from resight.errors import DataError, UsageError

Case = tuple[NDArray[Any], NDArray[np.int64]]


def random_case(n: int, c: int, seed: int, skill: float = 1.0) -> Case:
    random = np.random.default_rng(seed)
    labels = random.integers(0, c, n)
    scores = random.normal(size=(n, c))
    scores[np.arange(n), labels] += skill
    return scores, labels


def one_hot(predicted: list[int], c: int) -> NDArray[np.float64]:
    return np.eye(c)[predicted] * 4.0


def integer_scores(n: int, c: int, seed: int) -> Case:
    """Scores of few values: nearly every row has ties."""
    random = np.random.default_rng(seed)
    return random.integers(0, 3, size=(n, c)).astype(float), random.integers(0, c, n)


CASES: dict[str, Case] = {
    "random": random_case(500, 7, 0),
    "many classes": random_case(800, 60, 1, skill=3.0),
    "two classes": random_case(90, 2, 2),
    "float32": (random_case(200, 5, 3)[0].astype(np.float32), random_case(200, 5, 3)[1]),
    "one picture": random_case(1, 4, 4),
    "one picture, wrong": (one_hot([1], 4), np.array([2])),
    "perfect": (one_hot([0, 1, 2, 1], 3), np.array([0, 1, 2, 1])),
    "all wrong": (one_hot([1, 2, 0, 2], 3), np.array([0, 1, 2, 1])),
    "absent from the labels": (one_hot([0, 1, 3, 3], 5), np.array([0, 0, 1, 1])),
    "never answered": (one_hot([0, 0, 0, 0], 3), np.array([0, 1, 2, 2])),
    "ties": integer_scores(300, 6, 5),
    "all equal": (np.zeros((8, 3)), np.array([0, 1, 2, 0, 1, 2, 0, 0])),
    "huge logits": (one_hot([0, 1, 2, 2], 3) * 1e4, np.array([0, 1, 2, 1])),
}
MODERATE = {name: case for name, case in CASES.items() if np.abs(case[0]).max() < 20}  # scikit-learn clips others
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12, equal_nan=True)


@each_case
def test_accuracy(case: Case) -> None:
    scores, labels = case
    count = evaluation.accuracy(scores, labels)
    assert count.seen == len(labels)
    close(count.share, oracle.accuracy_score(labels, scores.argmax(axis=1)))


@each_case
@pytest.mark.parametrize("k", [1, 2, 3, 5, 100])
def test_top_k(case: Case, k: int) -> None:
    """scikit-learn gives ties to the higher index: with the classes reversed, to the lower one, as we do."""
    scores, labels = case
    c = scores.shape[1]
    count = evaluation.top_k(scores, labels, k)
    if c == 2:
        expected = float(np.mean(scores.argmax(axis=1) == labels)) if k == 1 else 1.0
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of k ≥ C
            expected = oracle.top_k_accuracy_score(c - 1 - labels, scores[:, ::-1], k=k, labels=np.arange(c))
    close(count.share, expected)
    if k == 1:
        assert count == evaluation.accuracy(scores, labels)
    if k >= c:
        assert count == evaluation.Count(len(labels), len(labels))


@each_case
def test_confusion_and_per_class(case: Case) -> None:
    scores, labels = case
    c, predicted = scores.shape[1], scores.argmax(axis=1)
    matrix = evaluation.confusion(predicted, labels, c)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, oracle.confusion_matrix(labels, predicted, labels=np.arange(c)))

    ours = evaluation.per_class(matrix)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        labels, predicted, labels=np.arange(c), zero_division=np.nan
    )
    close(ours.precision, precision)
    close(ours.recall, recall)
    close(ours.f1, f1)
    np.testing.assert_array_equal(ours.support, support)


@each_case
def test_macro(case: Case) -> None:
    scores, labels = case
    predicted = scores.argmax(axis=1)
    ours = evaluation.macro(evaluation.confusion(predicted, labels, scores.shape[1]))
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    close((ours.precision, ours.recall, ours.f1), (precision, recall, f1))


@pytest.mark.parametrize("case", MODERATE.values(), ids=MODERATE.keys())
def test_log_loss_against_scikit_learn(case: Case) -> None:
    scores, labels = case
    expected = oracle.log_loss(labels, evaluation.softmax(scores), labels=np.arange(scores.shape[1]))
    close(evaluation.log_loss(scores, labels), expected)


def test_log_loss_in_closed_form() -> None:
    close(evaluation.log_loss(np.zeros((3, 10)), [0, 4, 9]), math.log(10))
    close(evaluation.log_loss([[0.0, 1e6]], [0]), 1e6)
    close(evaluation.log_loss([[0.0, 50.0]], [1]), math.log1p(math.exp(-50)))
    assert evaluation.log_loss([[0.0, 1e6]], [1]) == 0.0


def test_losses_are_those_of_each_picture() -> None:
    scores, labels = CASES["random"]
    each = [evaluation.log_loss(scores[i : i + 1], labels[i : i + 1]) for i in range(20)]
    close(evaluation.losses(scores, labels)[:20], each)


def test_softmax_against_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    scores = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32) * 30
    close(evaluation.softmax(scores), special.softmax(scores.astype(np.float64), axis=-1))
    close(evaluation.log_softmax(scores), special.log_softmax(scores.astype(np.float64), axis=-1))
    assert evaluation.softmax(scores).dtype == np.float64


def test_counts_of_parts_add_up() -> None:
    scores, labels = CASES["random"]
    parts = [evaluation.top_k(scores[s], labels[s], 2) for s in (slice(0, 7), slice(7, 200), slice(200, 500))]
    assert parts[0] + parts[1] + parts[2] == evaluation.top_k(scores, labels, 2)
    assert math.isnan(evaluation.Count(0, 0).share)


def test_inputs_are_left_alone() -> None:
    scores, labels = random_case(20, 3, 9)
    before = scores.copy(), labels.copy()
    evaluation.log_loss(scores, labels)
    evaluation.softmax(scores)
    evaluation.fit_temperature(scores, labels)
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize(
    ("scores", "labels", "error", "words"),
    [
        (np.zeros(3), [0], UsageError, r"\(N, C\)"),
        (np.zeros((2, 0)), [0, 0], UsageError, r"\(N, C\)"),
        (np.zeros((2, 3), dtype=bool), [0, 0], UsageError, "bool"),
        (np.zeros((2, 3)), [0], UsageError, "2 rows of scores do not fit 1"),
        (np.zeros((2, 3)), [0.0, 1.0], UsageError, "integers"),
        (np.zeros((2, 3)), [0, 3], DataError, "run from 0 to 3"),
        (np.zeros((2, 3)), [-1, 0], DataError, "run from -1 to 0"),
        (np.zeros((0, 3)), [], DataError, "no pictures"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), [0, 0], DataError, "picture 1 are not finite"),
        (np.array([[np.inf, 1.0], [0.0, 0.0]]), [0, 0], DataError, "picture 0 are not finite"),
        (np.array([[1e200, 1.0]]), [0], DataError, "not finite"),
    ],
)
def test_wrong_input_is_refused(scores: Any, labels: Any, error: type[Exception], words: str) -> None:
    for function in (evaluation.accuracy, evaluation.log_loss, evaluation.fit_temperature):
        with pytest.raises(error, match=words):
            function(scores, labels)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="k of 1 or more"):
        evaluation.top_k([[1.0, 2.0]], [0], 0)
    with pytest.raises(UsageError, match="2 predictions do not fit 1 labels"):
        evaluation.confusion([0, 1], [0], 2)
    with pytest.raises(DataError, match="predicted classes run from 0 to 2"):
        evaluation.confusion([0, 2], [0, 1], 2)
    with pytest.raises(UsageError, match="confusion matrix"):
        evaluation.per_class([[1, 2]])
    with pytest.raises(DataError, match="counts"):
        evaluation.per_class([[-1]])
    with pytest.raises(DataError, match="no pictures"):
        evaluation.macro(np.zeros((3, 3), dtype=int))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n, c = draw(st.integers(1, 30)), draw(st.integers(3, 6))
    return integer_scores(n, c, draw(st.integers(0, 2**32 - 1)))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_top_k_is_the_head_of_a_stable_sort(case: Case) -> None:
    scores, labels = case
    order = np.argsort(-scores, axis=1, kind="stable")
    for k in range(1, scores.shape[1] + 1):
        slow = sum(int(label in row[:k]) for label, row in zip(labels, order, strict=True))
        assert evaluation.top_k(scores, labels, k).correct == slow


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 1000))
def test_metrics_do_not_depend_on_the_order_of_pictures_or_the_names_of_classes(case: Case, seed: int) -> None:
    scores, labels = case
    random = np.random.default_rng(seed)
    predicted, c = scores.argmax(axis=1), scores.shape[1]
    rows, names = random.permutation(len(labels)), random.permutation(c)
    plain = evaluation.macro(evaluation.confusion(predicted, labels, c))
    moved = evaluation.macro(evaluation.confusion(names[predicted][rows], names[labels][rows], c))
    close((plain.precision, plain.recall, plain.f1), (moved.precision, moved.recall, moved.f1))
