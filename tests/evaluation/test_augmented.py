"""Test-time augmentation: the views, the mean of probabilities, the paired differences."""

from __future__ import annotations

import json

import numpy as np
import pytest

from resight.errors import UsageError
from resight.evaluation import evaluate, expected_calibration_error, log_softmax, softmax
from resight.evaluation.augmented import VIEWS, compare_views, mean_logits, views_of

CLASSES = ("a", "b", "c")


def test_views_are_mirrored_and_shifted() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    same, mirrored = views_of(pixels, "flip")
    assert np.array_equal(same, pixels)
    assert np.array_equal(mirrored[:, :, ::-1], pixels)
    views = list(views_of(pixels, "flip+shift"))
    assert len(views) == VIEWS["flip+shift"] == 10
    assert np.array_equal(views[2][:, :-2, :-2], pixels[:, 2:, 2:])  # to the upper left, by 2 of 32
    assert np.array_equal(views[2][:, -1, :-2], pixels[:, -1, 2:])  # the edge is repeated
    assert np.array_equal(views[8][:, 2:, 2:], pixels[:, :-2, :-2])
    assert len({view.tobytes() for view in views}) == 10
    assert all(view.flags.c_contiguous and view.dtype == np.uint8 for view in views)
    assert len({view.tobytes() for view in views_of(pixels[:, :4, :4], "flip+shift")}) == 10  # at least a pixel
    with pytest.raises(UsageError, match="flip, flip"):
        list(views_of(pixels, "rotate"))


def test_probabilities_are_averaged_not_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (2, 50, 3))
    mean = mean_logits(list(logits))
    np.testing.assert_allclose(softmax(mean), softmax(logits).mean(axis=0), atol=1e-12)
    assert np.abs(softmax(mean) - softmax(logits.mean(axis=0))).max() > 0.01
    certain = mean_logits([np.array([[0.0, 5000.0, -5000.0]])])
    assert np.isfinite(certain).all()


def test_differences_are_paired_and_what_they_say() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 400)
    truth = 2.0 * np.eye(3)[labels]
    views = [truth + random.normal(0, 2, (400, 3)) for _ in range(4)]
    mean = mean_logits(views)
    found = compare_views(views[0], mean, labels, CLASSES, views="flip", seconds=4.2, plain_seconds=2.0)
    before, after = evaluate(views[0], labels, CLASSES), evaluate(mean, labels, CLASSES)
    for name in ("accuracy", "log_loss", "ece"):
        assert found.differences[name].value == pytest.approx(after.metrics[name].value - before.metrics[name].value)
    assert found.differences["accuracy"].value == pytest.approx((found.fixed - found.broken) / 400)
    right = [scores.argmax(axis=1) == labels for scores in (views[0], mean)]
    assert (found.fixed, found.broken) == (int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum()))
    assert found.differences["accuracy"].low > 0
    # The paired standard error of a difference of proportions (Agresti 2002, section 10.1.1).
    error = np.sqrt((found.fixed + found.broken) - (found.fixed - found.broken) ** 2 / 400) / 400
    width = found.differences["accuracy"].high - found.differences["accuracy"].low
    assert width == pytest.approx(2 * 1.96 * error, rel=0.12)
    assert expected_calibration_error(softmax(mean), labels) == pytest.approx(found.evaluation.metrics["ece"].value)
    loss = -log_softmax(mean)[np.arange(400), labels].mean()
    assert found.evaluation.metrics["log_loss"].value == pytest.approx(loss)
    assert found.cost == pytest.approx(2.1)
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (stored["count"], stored["cost"]) == (2, pytest.approx(2.1))


def test_text_states_cost_and_gain() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 300)
    plain = np.eye(3)[labels] + random.normal(0, 1, (300, 3))
    same = compare_views(plain, plain, labels, CLASSES, views="flip+shift", seconds=10, plain_seconds=1, note="a note")
    text = same.to_text()
    assert "10.0x the time for +0.0 [+0.0, +0.0] points of accuracy: no difference is shown" in text
    assert "note: a note" in text
    assert "10 views (flip+shift)" in text
    worse = compare_views(plain, -plain, labels, CLASSES, views="flip", seconds=2, plain_seconds=1)
    assert "2.0x the time for −" in worse.to_text()
    assert "no difference" not in worse.to_text()
