"""The probe against the conditions of its optimum, scikit-learn step by step, and its own rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from resight.evaluation import softmax
from resight.transfer import probe
from resight.transfer.probe import Floats, Head, Labels


def clouds(count: int, classes: int, seed: int = 0, spread: float = 2.0) -> tuple[Floats, Labels]:
    """Features (N, 2, 6) of unequal scale, two views of each, and labels (N,)."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(classes, 6))
    labels = np.arange(count) % classes
    features = centres[labels][:, None] + spread * random.normal(size=(count, 2, 6))
    return (features * [1, 10, 0.1, 1, 1, 1] + 3).astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("classes", [2, 5])
def test_each_head_is_the_optimum_of_its_penalty(classes: int) -> None:
    """The gradient of mean loss + λ/2 ‖W‖² over standardised features vanishes, in every direction."""
    features, labels = clouds(60, classes)
    rows, targets = features.reshape(-1, 6).astype(float), np.repeat(labels, 2)
    mean, std = rows.mean(0), rows.std(0)
    heads = list(probe.path(features, labels, classes))
    assert [penalty for penalty, _ in heads] == list(probe.PENALTIES)
    for penalty, head in heads[:5]:
        weight = head.weight * std
        errors = softmax(head.logits(features.reshape(-1, 6))) - np.eye(classes)[targets]
        slope = errors.T @ ((rows - mean) / std) / len(rows)
        # Of two classes scikit-learn punishes the difference w of both rows: λ/2 ‖w‖², and ±w/2 are the rows.
        expected = -penalty * weight * (2 if classes == 2 else 1)
        np.testing.assert_allclose(slope, expected, atol=3e-3)
        np.testing.assert_allclose(errors.mean(0), 0, atol=3e-3)


def test_the_head_is_plain_though_features_are_standardised() -> None:
    features, labels = clouds(60, 4)
    rows, targets = features.reshape(-1, 6), np.repeat(labels, 2)
    penalty, head = next(probe.path(features, labels, 4))
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (penalty * len(rows)), tol=1e-3))
    reference.fit(rows.astype(float), targets)
    np.testing.assert_allclose(softmax(head.logits(rows)), reference.predict_proba(rows), atol=2e-3)
    assert head.weight.dtype == head.bias.dtype == np.float32


def test_the_penalty_is_the_best_of_all_folds_together() -> None:
    """Beside scikit-learn without warm starts: mirrored views are fitted with, and never answered."""
    features, labels = clouds(80, 4, spread=2.5)
    head, choice = probe.fit((features, labels, [None] * 80), clouds(20, 4, seed=5), 4, seed=3)
    scores = []
    for penalty in probe.PENALTIES:
        right = 0
        for fit, held in StratifiedKFold(5, shuffle=True, random_state=3).split(labels, labels):
            rows, targets = features[fit].reshape(-1, 6).astype(float), np.repeat(labels[fit], 2)
            model = LogisticRegression(C=1 / (penalty * len(rows)), tol=1e-6, max_iter=5000)
            pipeline = make_pipeline(StandardScaler(), model).fit(rows, targets)
            right += int((pipeline.predict(features[held, 0].astype(float)) == labels[held]).sum())
        scores.append(right / 80)
    tried = {penalty: accuracy for penalty, accuracy, *_ in choice.tried}
    for penalty, score in zip(probe.PENALTIES, scores, strict=True):
        assert tried.get(penalty, score) == pytest.approx(score, abs=0.026)  # two pictures on the border
    assert choice.accuracy == max(tried.values())
    assert choice.on == "5-fold cross-validation of 80 training pictures"
    whole = dict(probe.path(features, labels, 4))[choice.penalty]
    np.testing.assert_array_equal(head.weight, whole.weight)


def test_the_penalty_has_the_best_mean_recall_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SMALL", 40)
    features, labels = clouds(240, 4, spread=3.0)
    few = np.flatnonzero((labels == 0) | (np.arange(240) % 12 < 4))
    val = clouds(200, 4, seed=5, spread=3.0)
    train = (features[few], labels[few], [None] * len(few))
    plain, balanced = (probe.fit(train, val, 4, seed=3, balanced=on)[1] for on in (False, True))
    assert plain.tried == balanced.tried
    assert plain.accuracy == max(row[1] for row in plain.tried)
    assert balanced.recall == max(row[3] for row in plain.tried)
    head = dict(probe.path(features[few], labels[few], 4))[balanced.penalty]
    answers = head.logits(val[0][:, 0]).argmax(1)
    assert balanced.recall == pytest.approx(balanced_accuracy_score(val[1], answers))


def test_a_large_validation_part_chooses_the_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SMALL", 40)
    train, val = clouds(60, 3), clouds(40, 3, seed=1)
    head, choice = probe.fit((*train, [None] * 60), val, 3, seed=0)
    assert choice.on == "40 validation pictures"
    assert choice.accuracy == pytest.approx((head.logits(val[0][:, 0]).argmax(1) == val[1]).mean())


def test_what_was_fitted_to_choose_the_penalty_is_not_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a large validation part the chosen head is one of those that were tried, bit for bit."""
    monkeypatch.setattr(probe, "SMALL", 40)
    fits: list[float] = []

    class Counted(LogisticRegression):
        def fit(self, *args: Any, **kwargs: Any) -> LogisticRegression:
            fits.append(self.C)
            return super().fit(*args, **kwargs)

    train, val = clouds(60, 3, spread=4.0), clouds(40, 3, seed=1, spread=4.0)
    expected = list(probe.path(*train, 3))
    monkeypatch.setattr(probe, "LogisticRegression", Counted)
    head, choice = probe.fit((*train, [None] * 60), val, 3, seed=0)
    assert len(fits) == len(choice.tried)
    assert choice.penalty != probe.PENALTIES[len(fits) - 1]  # weaker ones were tried after it
    np.testing.assert_array_equal(head.weight, dict(expected)[choice.penalty].weight)


def test_groups_are_never_on_both_sides() -> None:
    labels = np.arange(60, dtype=np.int64) % 3
    groups = [f"patient {i // 6}" if i < 30 else None for i in range(60)]
    folds = list(probe._folds(labels, groups, seed=0))
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(60))
    for fit, held in folds:
        inside = {groups[i] for i in fit} & {groups[i] for i in held}
        assert inside <= {None}


def test_pictures_too_few_for_folds_leave_it_to_validation() -> None:
    labels = np.arange(3, dtype=np.int64)
    assert list(probe._folds(labels, [None] * 3, 0)) == []
    assert list(probe._folds(np.zeros(8, np.int64) + 1, ["one"] * 8, 0)) == []
    features = np.eye(3, dtype=np.float32)[:, None]
    _, choice = probe.fit((features, labels, [None] * 3), (features, labels), 3, 0)
    assert (choice.on, choice.accuracy) == ("3 validation pictures", 1.0)


def test_a_class_without_pictures_is_never_answered_and_dead_features_do_no_harm() -> None:
    features, labels = clouds(60, 3)
    features[:, :, 2] = 0.25
    _, head = next(probe.path(features, labels * 2, 6))
    logits = head.logits(features[:, 0])
    assert np.isfinite(logits).all()
    assert set(logits.argmax(1).tolist()) <= {0, 2, 4}
    assert head.weight.shape == (6, 6)
    assert not head.weight[[1, 3, 5]].any()


def test_weaker_penalties_are_not_tried_once_the_loss_has_risen_twice() -> None:
    random = np.random.default_rng(0)
    noise, labels = random.normal(size=(60, 1, 30)).astype(np.float32), np.arange(60, dtype=np.int64) % 3
    _, choice = probe.fit((noise, labels, [None] * 60), (noise[:6], labels[:6]), 3, 0)
    losses = [loss for _, _, loss, _ in choice.tried]
    assert len(losses) < len(probe.PENALTIES)
    assert int(np.argmin(losses)) == len(losses) - 3


def test_logits_of_a_head_are_those_of_a_linear_layer() -> None:
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(4, 3)
    head = Head(layer.weight.detach().numpy(), layer.bias.detach().numpy())
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(head.logits(rows), layer(torch.from_numpy(rows)).detach().numpy(), atol=1e-6)
