"""An evaluation as a whole: its numbers, its JSON, its text."""

from __future__ import annotations

import json
import time
import unicodedata

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from resight import evaluation
from resight.errors import DataError, UsageError
from resight.evaluation.text import clean, columns

NAMES = ["t-shirt", "shirt", "coat", "bag", "boot", "hat"]


def made(n: int = 400, seed: int = 0) -> evaluation.Evaluation:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, n)  # no hats
    logits = random.normal(size=(n, 6))
    logits[np.arange(n), labels] += 2
    return evaluation.evaluate(logits, labels, NAMES)


def slow_aurc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    order = np.argsort(-probabilities.max(axis=1))
    wrong = (probabilities.argmax(axis=1) != labels)[order]
    return float(np.mean([wrong[: k + 1].mean() for k in range(len(order))]))


def test_the_numbers_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 8, 300), random.normal(size=(300, 8)) * 2
    found = evaluation.evaluate(logits, labels, [f"c{i}" for i in range(8)], top_k=3)
    predicted = logits.argmax(axis=1)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(labels, predicted, average="macro")
    probabilities = evaluation.softmax(logits)
    expected = {
        "accuracy": oracle.accuracy_score(labels, predicted),
        "top3": oracle.top_k_accuracy_score(labels, logits, k=3),
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
        "auroc": oracle.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "average_precision": oracle.average_precision_score(np.eye(8)[labels], probabilities),
        "log_loss": oracle.log_loss(labels, probabilities),
        "brier": oracle.brier_score_loss(labels, probabilities, scale_by_half=False),
        "ece": evaluation.expected_calibration_error(probabilities, labels),
        "aurc": slow_aurc(probabilities, labels),
    }
    assert list(found.metrics) == list(expected)
    assert {name: e.value for name, e in found.metrics.items()} == pytest.approx(expected, abs=1e-12)
    methods = dict.fromkeys(expected, "wilson-effective") | dict.fromkeys(["accuracy", "top3"], "wilson")
    methods |= dict.fromkeys(["log_loss", "brier"], "bootstrap-t") | {"ece": "bootstrap"}
    assert {name: e.method for name, e in found.metrics.items()} == methods
    assert all(e.low < e.value < e.high for e in found.metrics.values())
    each = oracle.f1_score(labels, predicted, average=None)
    assert [result.f1.value for result in found.per_class if result.f1] == pytest.approx(each, abs=1e-12)
    for k, result in enumerate(found.per_class):
        assert result.auroc is not None
        assert result.average_precision is not None
        own = labels == k
        assert result.auroc.value == pytest.approx(oracle.roc_auc_score(own, probabilities[:, k]), abs=1e-12)
        average = oracle.average_precision_score(own, probabilities[:, k])
        assert result.average_precision.value == pytest.approx(average, abs=1e-12)
    np.testing.assert_array_equal(found.confusion, oracle.confusion_matrix(labels, predicted))


def test_classes_that_do_not_occur_or_are_never_answered() -> None:
    logits = np.eye(4)[[0, 0, 3, 0]] * 3
    found = evaluation.evaluate(logits, [0, 0, 0, 1], ["a", "b", "c", "d"])
    a, b, c, d = found.per_class
    assert a.precision == evaluation.wilson(2, 3)
    assert a.recall == evaluation.wilson(2, 3)
    assert (b.support, b.precision, b.recall) == (1, None, evaluation.wilson(0, 1))
    assert b.f1 is not None
    assert b.f1.value == 0.0
    assert c == evaluation.ClassResult("c", 0, None, None, None)
    assert d == evaluation.ClassResult("d", 0, None, None, None)  # answered once, but without pictures
    assert "top5" not in found.metrics


def test_top_k_is_only_there_where_it_says_something() -> None:
    assert "top5" in made().metrics
    five = evaluation.evaluate(np.eye(5), np.arange(5), list("abcde"))
    assert "top5" not in five.metrics
    assert "top4" in evaluation.evaluate(np.eye(5), np.arange(5), list("abcde"), top_k=4).metrics


def test_the_same_seed_gives_the_same_evaluation() -> None:
    logits, labels = np.random.default_rng(1).normal(size=(50, 3)), np.arange(50) % 3
    first, again, other = (evaluation.evaluate(logits, labels, list("abc"), seed=s) for s in (1, 1, 2))
    assert first.to_dict() == again.to_dict()
    assert first.metrics["log_loss"] != other.metrics["log_loss"]
    assert first.metrics["accuracy"] == other.metrics["accuracy"]


def test_json_and_back() -> None:
    found = made()
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    back = evaluation.Evaluation.from_dict(stored)
    assert back.to_dict() == found.to_dict()
    assert (back.n, back.classes, back.per_class) == (found.n, found.classes, found.per_class)
    assert dict(back.metrics) == dict(found.metrics)
    np.testing.assert_array_equal(back.confusion, found.confusion)
    assert back.to_text() == found.to_text()
    assert stored["per_class"][5] == {
        "name": "hat",
        "support": 0,
        "precision": None,
        "recall": None,
        "f1": None,
        "auroc": None,
        "average_precision": None,
    }
    assert sum(count for _, _, count in stored["confusion"]) == 400


@pytest.mark.parametrize("broken", [{}, {"classes": 3}, {"metrics": {"accuracy": {}}}, {"confusion": [[9, 9, 1]]}])
def test_what_is_no_evaluation_is_refused(broken: dict[str, object]) -> None:
    stored = made(20).to_dict() | broken if broken else {}
    with pytest.raises(DataError, match="not a stored evaluation"):
        evaluation.Evaluation.from_dict(stored)


def test_an_evaluation_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        made(20).confusion[0, 0] = 7


@pytest.mark.parametrize("names", [NAMES[:5], "abcdef"])
def test_names_must_fit(names: list[str]) -> None:
    with pytest.raises(UsageError, match="class names"):
        evaluation.evaluate(np.zeros((2, 6)), [0, 1], names)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 7), st.integers(0, 10**6), st.sampled_from([0.0, 1.0, 40.0]))
def test_every_evaluation_is_json_and_contains_its_values(n: int, c: int, seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(n, c)) * scale, random.integers(0, c, n)
    found = evaluation.evaluate(logits, labels, [f"c{i}" for i in range(c)])
    json.dumps(found.to_dict(), allow_nan=False)
    estimates = list(found.metrics.values())
    each = [(r.precision, r.recall, r.f1, r.auroc, r.average_precision) for r in found.per_class]
    estimates += [e for shares in each for e in shares if e is not None]
    assert all(0 <= e.low <= e.value <= e.high for e in estimates)
    assert found.to_text()


def test_text() -> None:
    predicted = [0] * 30 + [1] * 6 + [0] * 4 + [2] * 9 + [1]
    logits = np.eye(4)[predicted] * 3
    found = evaluation.evaluate(logits, [0] * 30 + [1] * 10 + [2] * 10, ["t-shirt", "shirt", "coat", "hat"])
    lines = found.to_text().split("\n")
    assert lines[0] == "50 pictures, 4 classes, 95 % intervals"
    assert lines[2] == "accuracy                     90.0 %  [78.6, 95.7]"
    table = lines.index("class    pictures  precision                  recall                     F1")
    assert [line.split()[:2] for line in lines[table + 1 : table + 5]] == [
        ["t-shirt", "30"],
        ["shirt", "10"],
        ["coat", "10"],
        ["hat", "0"],
    ]
    assert lines[table + 1].startswith(
        "t-shirt        30     88.2 %  [73.4, 95.3]   100.0 %  [88.6, 100.0]  93.8 %  [84.6, 97.6]"
    )
    assert lines[table + 4].split() == ["hat", "0", "–", "–", "–"]
    assert lines[-3:] == [
        "Most frequent confusions",
        "  true shirt → predicted t-shirt: 4",
        "  true coat → predicted shirt: 1",
    ]
    assert all(line == line.rstrip() for line in lines)


def test_text_of_many_classes_shows_the_worst_in_class_order() -> None:
    labels = np.repeat(np.arange(10), 5)
    predicted = labels.copy()
    predicted[[5 * 7, 5 * 7 + 1, 5 * 2]] = 0
    found = evaluation.evaluate(np.eye(10)[predicted], labels, [f"k{i}" for i in range(10)])
    text = found.to_text(max_classes=3)
    shown = [line.split()[0] for line in text.split("\n") if line.startswith("k")]
    assert shown == ["k0", "k2", "k7"]
    assert "The 3 classes with the lowest F1; 7 more are not shown." in text
    assert "pictures  precision" not in found.to_text(max_classes=0)
    with pytest.raises(UsageError, match="max_classes"):
        found.to_text(max_classes=-1)


def test_text_without_mistakes_and_of_few_pictures() -> None:
    text = evaluation.evaluate([[1.0, 0.0]], [0], ["a", "b"]).to_text()
    assert text.startswith("1 picture, ")
    assert "confusions" not in text
    assert "too narrow" in text
    assert "too narrow" not in made(100).to_text()


def test_names_cannot_play_with_the_terminal() -> None:
    names = ["\x1b[31mred\x1b[0m", "evil\u202egpj.exe", "two\nlines", "nul\x00\x9b\u2028\ud800"]
    found = evaluation.evaluate(np.eye(4), [1, 2, 3, 0], names)
    text = found.to_text()
    assert {unicodedata.category(c) for c in text.replace("\n", "")}.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})
    assert "true \ufffd[31mred\ufffd[0m → predicted evil\ufffdgpj.exe: 1" not in text
    assert "predicted \ufffd[31mred\ufffd[0m: 1" in text
    text.encode()


def test_wide_and_joined_names_stay_in_their_columns() -> None:
    assert columns("猫") == 2
    assert columns("e\u0301") == columns("ก\u0e31") == columns("1\u20dd") == 1
    assert clean("می\u200cخواهم") == "می\u200cخواهم"
    assert clean("猫" * 30, 10) == "猫猫猫猫…"
    found = evaluation.evaluate(np.eye(3), [0, 1, 2], ["猫", "dog", "e\u0301tang"])
    lines = found.to_text().split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("class "))
    ends = {columns(line[: line.index("%")]) for line in lines[start + 1 : start + 4]}
    assert len(ends) == 1


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.integers(1, 40))
def test_clean_names_fit(name: str, width: int) -> None:
    shown = clean(name, width)
    assert columns(shown) <= width
    assert all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert unicodedata.bidirectional(shown[0]) not in ("LRO", "RLO", "LRE", "RLE") if shown else not name
    assert shown == name or "\ufffd" in shown or shown.endswith("…")


def test_ten_thousand_pictures_of_a_hundred_classes_take_seconds_at_most() -> None:
    """0.2 to 0.7 s on one core of a server; the limit is wide, so that only a wrong algorithm breaks it."""
    random = np.random.default_rng(0)
    started = time.process_time()
    evaluation.evaluate(random.normal(size=(10000, 100)), random.integers(0, 100, 10000), [str(i) for i in range(100)])
    assert time.process_time() - started < 10


def test_before_and_after_the_temperature() -> None:
    random = np.random.default_rng(5)
    labels, raw = random.integers(0, 4, 300), random.normal(size=(300, 4)) * 3
    found = evaluation.evaluate(raw / 2.5, labels, list("abcd"), temperature=2.5)
    plain = evaluation.evaluate(raw, labels, list("abcd"))
    assert plain.uncalibrated == {}
    assert list(found.uncalibrated) == ["log_loss", "brier", "ece"]
    for name, estimate in found.uncalibrated.items():
        assert estimate.value == pytest.approx(plain.metrics[name].value, abs=1e-12)
    with pytest.raises(UsageError, match="temperature"):
        evaluation.evaluate(raw, labels, list("abcd"), temperature=0)


def test_groups_have_results_of_their_own() -> None:
    logits, labels = np.eye(2)[[0, 0, 1, 0, 1]], [0, 1, 1, 0, 1]
    found = evaluation.evaluate(logits, labels, ["a", "b"], groups=["x", "x", "y", None, "y"])
    assert found.groups == (
        evaluation.GroupResult("x", 2, evaluation.wilson(1, 2)),
        evaluation.GroupResult("y", 2, evaluation.wilson(2, 2)),
    )
    assert evaluation.Evaluation.from_dict(found.to_dict()).groups == found.groups
    with pytest.raises(UsageError, match="groups"):
        evaluation.evaluate(logits, labels, ["a", "b"], groups=["x"])


def test_evaluations_stored_by_earlier_versions_are_read() -> None:
    stored = made().to_dict()
    old = {name: stored[name] for name in ("n", "classes", "confusion")}
    old["metrics"] = {name: stored["metrics"][name] for name in ("accuracy", "top5", "log_loss", "ece")}
    shares = ("name", "support", "precision", "recall", "f1")
    old["per_class"] = [{name: result[name] for name in shares} for result in stored["per_class"]]
    found = evaluation.Evaluation.from_dict(old)
    assert (found.groups, dict(found.uncalibrated), found.per_class[0].auroc) == ((), {}, None)
    assert found.to_text()
