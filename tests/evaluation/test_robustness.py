"""Accuracy under corruptions: means, paired drops, intervals, the choice of pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from resight.errors import DataError, UsageError
from resight.evaluation.corruptions import KINDS
from resight.evaluation.robustness import Robustness, stratified, summarise

CONFIDENCE = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)


def made(
    n: int = 200, kinds: tuple[str, ...] = KINDS, available: int = 200
) -> tuple[Robustness, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    clean = random.random(n) < 0.9
    hits = np.stack([[clean & (random.random(n) < 1 - 0.1 * s) for s in range(1, 6)] for _ in kinds])
    found = summarise(
        clean, dict(zip(kinds, hits, strict=True)), confidence=CONFIDENCE, available=available, size=224, seed=3
    )
    return found, clean, hits


def test_means_and_drops_are_what_they_say() -> None:
    found, clean, hits = made()
    assert found.accuracy.value == pytest.approx(hits.mean())
    assert found.drop.value == pytest.approx(clean.mean() - hits.mean())
    assert found.retained is not None
    assert found.retained.value == pytest.approx(hits.mean() / clean.mean())
    assert [share.value for share in found.severities] == pytest.approx(hits.mean(axis=(0, 2)))
    for kind, rows in zip(found.kinds, hits, strict=True):
        assert [share.value for share in kind.accuracy] == pytest.approx(rows.mean(axis=1))
        assert kind.mean.value == pytest.approx(rows.mean())
        assert kind.drop.value == pytest.approx(clean.mean() - rows.mean())
    stored = found.to_dict()
    assert stored["mean_corruption_error"]["value"] == pytest.approx(1 - hits.mean())
    assert stored["mean_corruption_error"]["low"] == pytest.approx(1 - found.accuracy.high)
    assert stored["relative_corruption_error"]["value"] == pytest.approx(found.drop.value)
    assert json.loads(json.dumps(stored, allow_nan=False))["n"] == 200


def test_pictures_are_the_unit_not_answers() -> None:
    """Where all 75 versions of a picture are answered alike, they are no more evidence than one."""
    right = np.random.default_rng(0).random(100) < 0.5
    alike = summarise(
        right, {kind: np.tile(right, (5, 1)) for kind in KINDS}, confidence=CONFIDENCE, available=100, size=32
    )
    assert alike.accuracy.high - alike.accuracy.low == pytest.approx(alike.clean.high - alike.clean.low, rel=0.15)
    assert alike.drop.value == 0
    assert -0.05 < alike.drop.low < 0 < alike.drop.high < 0.05  # none of 100 differs: as wide as that says


def test_drops_are_paired() -> None:
    """Each picture right when clean, and one in ten lost: the drop is sharper than two accuracies would tell."""
    random = np.random.default_rng(0)
    clean = random.random(400) < 0.5
    lost = clean & (random.random(400) < 0.9)
    found = summarise(clean, {"fog": np.tile(lost, (5, 1))}, confidence=CONFIDENCE, available=400, size=32)
    assert found.drop.high - found.drop.low < 0.5 * (found.clean.high - found.clean.low)
    assert found.drop.low > 0


def test_intervals_cover() -> None:
    """The mean over kinds and severities, in 200 repeats with pictures of unequal difficulty."""
    random, inside = np.random.default_rng(1), 0
    for _ in range(200):
        ease = random.beta(2, 1, 60)  # mean 2/3
        hits = random.random((2, 5, 60)) < ease
        pair = dict(zip(("fog", "snow"), hits, strict=True))
        found = summarise(random.random(60) < ease, pair, confidence=CONFIDENCE, available=60, size=32, resamples=300)
        inside += found.accuracy.low <= 2 / 3 <= found.accuracy.high
    assert inside >= 0.91 * 200


def test_text_fits_a_terminal_and_says_how_many() -> None:
    text = made()[0].to_text()
    assert max(map(len, text.split("\n"))) <= 100
    assert all(line == line.rstrip() for line in text.split("\n"))
    assert all(kind.replace("_", " ") in text for kind in KINDS)
    assert "all 200 pictures at 224 px" in text
    assert "as in ImageNet-C, seed 3" in text
    assert "--corruption-pictures all" not in text
    some = made(available=5000)[0].to_text()
    assert "200 of 5,000 pictures" in some
    assert "--corruption-pictures all" in some
    one = made(kinds=("fog",))[0].to_text()
    assert "fog" in one
    assert "largest drop" not in one


def test_overconfidence_is_said() -> None:
    """Only where the answers are surer than they are right, by more than five points."""
    clean, hits = np.arange(100) < 90, {"fog": np.tile(np.arange(100) < 60, (5, 1))}
    for confidence, said in (((0.9, *[0.8] * 5), True), ((0.9, *[0.62] * 5), False)):
        text = summarise(clean, hits, confidence=confidence, available=100, size=32).to_text()
        assert ("20.0 points too high here, 0.0 on clean" in text) == said


def test_nothing_right_is_no_share() -> None:
    none = np.zeros(20, bool)
    found = summarise(none, {"fog": np.zeros((5, 20), bool)}, confidence=CONFIDENCE, available=20, size=32)
    assert found.retained is None
    assert found.drop.value == 0
    assert "kept" not in found.to_text()


def test_what_does_not_fit_is_refused() -> None:
    good = {"fog": np.zeros((5, 20), bool)}
    with pytest.raises(DataError):
        summarise(np.zeros(0, bool), {"fog": np.zeros((5, 0), bool)}, confidence=CONFIDENCE, available=0, size=32)
    for correct, confidence in (({}, CONFIDENCE), ({"fog": np.zeros((4, 20), bool)}, CONFIDENCE), (good, (1.0,))):
        with pytest.raises(UsageError):
            summarise(np.zeros(20, bool), correct, confidence=confidence, available=20, size=32)


def test_the_choice_keeps_the_classes_proportions() -> None:
    labels = np.repeat([0, 1, 2, 3], [500, 300, 150, 50])
    np.random.default_rng(0).shuffle(labels)
    chosen = stratified(labels, 100, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [50, 30, 15, 5]
    assert len(np.unique(chosen)) == 100
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, stratified(labels, 100, seed=1))
    assert not np.array_equal(chosen, stratified(labels, 100, seed=2))
    assert len(stratified(labels, 7)) == 7
    assert np.array_equal(stratified(labels, 1000), np.arange(1000))
    with pytest.raises(UsageError):
        stratified(labels, 0)


def test_where_all_pictures_are_alike_nothing_is_certain() -> None:
    right = np.ones(20, bool)
    found = summarise(right, {"fog": np.ones((5, 20), bool)}, confidence=CONFIDENCE, available=20, size=224, seed=0)
    assert found.accuracy.low < 0.9 < found.accuracy.high == 1.0
    assert found.drop.low < -0.1 < 0.1 < found.drop.high
    assert found.retained is not None
    assert found.retained.low < 0.9
    assert "fewer than 30 pictures" in found.to_text()
