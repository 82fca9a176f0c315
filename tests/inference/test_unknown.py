"""What is unlike the training data: against slow references, closed forms and SciPy; and what a Run does with it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from scipy.spatial.distance import cdist, mahalanobis
from tests.inference import tiny

from resight.errors import RunError
from resight.images import Geometry
from resight.inference import Predictor
from resight.inference.unknown import (
    Reference,
    balanced,
    bank_size,
    describe,
    read_reference,
    threshold,
    unit,
    whitening,
)
from resight.inference.within import class_means
from resight.runs import CARD, REFERENCE, Architecture, Run, RunCard

HOSTILE = ["../../etc/passwd", "undecodable\udcff", "right\u202eto left", "two\nlines", "", "猫.png", "=1+1"]


def embeddings(count: int, width: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Two classes beside each other, stretched along some directions."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    rows = random.normal(size=(count, width)) * np.geomspace(1, 0.05, width) + 2
    rows[:, 0] += 2 * labels
    return rows.astype(np.float32), labels


def shrunk(rows: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Chen et al. 2010, equation 23, term by term and with loops."""
    own = rows.astype(np.float64).copy()
    for label in set(labels.tolist()):
        own[labels == label] -= own[labels == label].mean(axis=0)
    n, p = len(rows) - len(set(labels.tolist())), rows.shape[1]
    s = sum(np.outer(row, row) for row in own) / n
    rho = ((1 - 2 / p) * np.trace(s @ s) + np.trace(s) ** 2) / (
        (n + 1 - 2 / p) * (np.trace(s @ s) - np.trace(s) ** 2 / p)
    )
    rho = min(rho, 1)
    return np.asarray((1 - rho) * s + rho * np.trace(s) / p * np.eye(p))


@pytest.mark.parametrize(("count", "width"), [(300, 5), (40, 12), (10, 30)])  # the last has more numbers than pictures
def test_distances_are_mahalanobis_in_the_shrunk_covariance_within_classes(count: int, width: int) -> None:
    rows, labels = embeddings(count, width)
    rows = unit(rows)
    matrix = whitening(rows, labels).astype(np.float64)
    inverse = np.linalg.inv(shrunk(rows, labels))
    for a, b in ((rows[0], rows[1]), (rows[2], rows[-1])):
        expected = mahalanobis(a.astype(float), b.astype(float), inverse)
        assert np.linalg.norm((a - b) @ matrix) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_the_score_is_the_distance_to_the_kth_nearest(k: int) -> None:
    rows, labels = embeddings(80, 6)
    asked, _ = embeddings(300, 6, seed=1)  # more than are computed at a time
    reference = Reference.fit(rows, labels, labels, ["x"] * 80)
    white = (unit(asked) - reference.centre).astype(np.float64) @ reference.whitening.astype(np.float64)
    expected = np.sort(cdist(white, reference.whitened.astype(np.float64)), axis=1)[:, min(k, 80) - 1]
    found = reference.scorer(k)(asked)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_scores_know_neither_length_nor_rotation() -> None:
    rows, labels = embeddings(100, 8)
    asked, _ = embeddings(20, 8, seed=2)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0].astype(np.float32)
    plain = Reference.fit(rows, labels, labels, ["x"] * 100).scorer(5)(asked)
    turned = Reference.fit(7 * rows @ turn, labels, labels, ["x"] * 100).scorer(5)(0.1 * asked @ turn)
    np.testing.assert_allclose(turned, plain, rtol=2e-2)


def test_what_is_far_away_scores_higher() -> None:
    rows, labels = embeddings(200, 8)
    score = Reference.fit(rows, labels, labels, ["x"] * 200).scorer(5)
    assert score(-rows[:20]).min() > score(embeddings(20, 8, seed=5)[0]).max()


@pytest.mark.parametrize("rows", [np.zeros((3, 4)), np.ones((1, 4)), np.eye(4), np.full((5, 1), 2.0)])
def test_too_little_to_learn_from_gives_finite_scores(rows: NDArray[np.float64]) -> None:
    """One picture, one of each class, all alike, nothing but zeros, one number."""
    labels = np.arange(len(rows))
    reference = Reference.fit(rows.astype(np.float32), labels, labels, ["x"] * len(rows))
    assert np.isfinite(reference.whitened).all()
    assert np.isfinite(reference.scorer(5)(np.vstack([rows, rows + 1]).astype(np.float32))).all()


def test_class_means() -> None:
    means = class_means(np.array([[1, 2], [3, 4], [5, 5]], np.float32), np.array([0, 0, 2]))
    assert means.tolist() == [[2, 3], [0, 0], [5, 5]]


@given(st.integers(1, 200), st.integers(0, 10**6))
def test_the_threshold_keeps_its_share(count: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    found = threshold(scores)
    if count < 19:
        assert found is None
        assert describe(scores, 9) == {}
    else:
        assert found in scores
        assert (scores <= found).sum() == math.ceil(0.95 * (count + 1))


@pytest.mark.parametrize("count", [19, 59, 500])
def test_a_new_picture_is_called_unknown_no_more_often_than_promised(count: int) -> None:
    """Exchangeable scores without ties: exactly 1 - ⌈0.95 (n + 1)⌉ / (n + 1), whatever their distribution."""
    random, repeats = np.random.default_rng(count), 4000
    called = 0
    for _ in range(repeats):
        limit = threshold(random.lognormal(size=count).astype(np.float32))
        assert limit is not None
        called += int(random.lognormal() > limit)
    expected = 1 - math.ceil(0.95 * (count + 1)) / (count + 1)
    assert called / repeats <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert called / repeats == pytest.approx(expected, abs=4 * math.sqrt(0.05 * 0.95 / repeats))


def test_the_card_says_how_well_the_threshold_is_known() -> None:
    card = describe(np.arange(1000, dtype=np.float32), 77)
    assert (card["threshold"], card["validation"], card["pictures"]) == (950.0, 1000, 77)
    assert card["alarms"]["low"] < card["alarms"]["value"] == 0.049 < card["alarms"]["high"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(1, 100), st.integers(0, 99))
@settings(max_examples=50)
def test_the_bank_takes_all_classes_alike(labels: list[int], most: int, seed: int) -> None:
    given_labels = np.array(labels)
    chosen = balanced(given_labels, most, seed)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == min(most, len(labels))
    taken, there = np.bincount(given_labels[chosen], minlength=6), np.bincount(given_labels, minlength=6)
    left = taken[(taken < there)]
    assert not len(left) or taken.max() <= left.min() + 1  # who has pictures left has as many as anyone, up to one
    assert np.array_equal(chosen, balanced(given_labels, most, seed))


def test_the_bank_is_bounded() -> None:
    assert [bank_size(width) for width in (1, 64, 512, 2048, 1 << 22)] == [4096, 4096, 4096, 1024, 1]


def test_a_reference_comes_back_with_any_names() -> None:
    rows, labels = embeddings(len(HOSTILE), 4)
    reference = Reference.fit(rows, labels, np.arange(len(HOSTILE)) * 10, HOSTILE)
    back = Reference.from_bytes(reference.to_bytes())
    assert back.sources == tuple(HOSTILE)
    for name in ("bank", "centre", "whitening", "whitened", "labels", "indices"):
        assert np.array_equal(getattr(back, name), getattr(reference, name))
    assert back.to_bytes() == reference.to_bytes()


def broken(name: str) -> bytes:
    rows, labels = embeddings(6, 4)
    whole = Reference.fit(rows, labels, labels, list("abcdef")).to_bytes()
    arrays = load_tensors(whole)
    if name == "cut":
        return whole[:-1]
    if name == "no text":
        return save_tensors(arrays, metadata={"sources": "[1, 2, 3, 4, 5, 6]"})
    if name == "too few names":
        return save_tensors(arrays, metadata={"sources": '["a"]'})
    if name == "too many":  # a bank that slows every answer down is no reference of ours
        most = bank_size(4) + 1
        rows, labels = embeddings(most, 4)
        return Reference.fit(rows, labels, np.arange(most), ["a"] * most).to_bytes()
    if name == "no names":
        return save_tensors(arrays)
    changes: dict[str, Any] = {
        "another shape": {"labels": arrays["labels"][:5]},
        "another type": {"indices": arrays["indices"].astype(np.int32)},
        "not finite": {"whitening": arrays["whitening"] * np.float32(np.nan)},
        "one more": {"more": arrays["labels"]},
    }
    return save_tensors(arrays | changes[name], metadata={"sources": '["a", "b", "c", "d", "e", "f"]'})


@pytest.mark.parametrize(
    "name",
    [
        "cut",
        "no text",
        "too few names",
        "too many",
        "no names",
        "another shape",
        "another type",
        "not finite",
        "one more",
    ],
)
def test_a_damaged_reference_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Reference.from_bytes(broken(name))
    run = tiny.make_run(tmp_path / "run", fields={"unknown": KNOWN}, reference=broken(name))
    with pytest.raises(RunError, match=r"reference\.safetensors is damaged"):
        list(Predictor(run).predict([tiny.picture("red")]))


KNOWN = {"score": "knn-whitened", "k": 5, "threshold": 1.0}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.make_known_run(tmp_path_factory.mktemp("known") / "run")


def test_a_picture_of_another_colour_is_unknown_and_one_of_the_training_colours_is_not(known: Run) -> None:
    yellow = np.full((9, 9, 3), (250, 230, 10), np.uint8)
    unlike, like = Predictor(known).predict([yellow, tiny.picture("green", 5)])
    assert (unlike.unknown, like.unknown) == (True, False)
    assert unlike.score is not None
    assert unlike.score.value > unlike.score.threshold == known.card.unknown["threshold"]
    assert unlike.label in known.classes
    assert unlike.probability == unlike.top[0][1]


def test_alone_and_in_any_batch_the_answer_is_the_same(known: Run) -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(20)]
    pictures += [tiny.picture(colour, k) for k, colour in enumerate(tiny.CLASSES * 7)]
    alone = [next(Predictor(known, threads=1).predict([picture])) for picture in pictures[::8]]
    for batch, threads in ((1, 1), (8, 2), (64, 1)):
        together = list(Predictor(known, threads=threads, batch=batch).predict(pictures))
        assert {answer.unknown for answer in together} == {True, False}
        for one, other in zip(alone, together[::8], strict=True):
            assert one.unknown == other.unknown
            assert one.score is not None
            assert other.score is not None
            assert one.score.value == pytest.approx(other.score.value, rel=1e-5, abs=1e-5)


def test_errors_and_runs_without_a_reference_do_not_say(known: Run, tmp_path: Path) -> None:
    bad = next(Predictor(known).predict([b"no picture"]))
    assert (bad.unknown, bad.score) == (None, None)
    plain = tiny.make_run(tmp_path / "run")
    assert Predictor(plain).unknowns is None
    answer = next(Predictor(plain).predict([tiny.picture("red")]))
    assert (answer.unknown, answer.score) == (None, None)
    with pytest.raises(RunError, match=r"has no reference\.safetensors"):
        read_reference(plain)


def test_a_changed_or_added_reference_is_refused(tmp_path: Path) -> None:
    run = tiny.make_known_run(tmp_path / "run")
    path = run.file(REFERENCE)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match="was changed after"):
        list(Predictor(run).predict([tiny.picture("red")]))
    plain = tiny.make_run(tmp_path / "plain")
    (plain.path / REFERENCE).write_bytes(run.file(REFERENCE).read_bytes())
    with pytest.raises(RunError, match="has no reference"):
        read_reference(plain)


def test_a_reference_of_another_network_is_refused(tmp_path: Path) -> None:
    rows, labels = embeddings(20, 5)
    other = Reference.fit(rows, labels, labels, ["x"] * 20).to_bytes()
    run = tiny.make_run(tmp_path / "run", fields={"unknown": KNOWN}, reference=other)
    with pytest.raises(RunError, match="embeddings of 5 numbers"):
        list(Predictor(run).predict([tiny.picture("red")]))
    rows, labels = embeddings(20, 4)
    more = Reference.fit(rows, labels + 2, labels, ["x"] * 20).to_bytes()
    with pytest.raises(RunError, match="labels that the Run's classes do not have"):
        read_reference(tiny.make_run(tmp_path / "more", fields={"unknown": KNOWN}, reference=more))


def test_a_score_of_a_later_version_is_refused(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run", fields={"unknown": KNOWN | {"score": "clairvoyance"}})
    with pytest.raises(RunError, match="'clairvoyance', this version by 'knn-whitened'"):
        list(Predictor(run).predict([tiny.picture("red")]))


def test_cards_of_earlier_runs_can_be_read(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    plain = json.loads((run.path / CARD).read_text())
    del plain["unknown"]
    (run.path / CARD).write_text(json.dumps(plain))
    assert Run.open(run.path).card.unknown == {}


IMPOSSIBLE = [{"threshold": "1"}, {"k": 0}, {"k": 2.5}, {"score": 1}]


@pytest.mark.parametrize("unknown", [[], {"score": "knn-whitened"}, *(KNOWN | wrong for wrong in IMPOSSIBLE)])
def test_impossible_cards_are_refused(unknown: Any, tmp_path: Path) -> None:
    card = RunCard(Architecture("resnet18"), ("a", "b"), 3, Geometry("squash", 8), (0.0,) * 3, (1.0,) * 3)
    data = json.loads(replace(card).to_json()) | {"unknown": unknown}
    with pytest.raises(RunError, match="unknown"):
        RunCard.from_json(json.dumps(data).encode(), tmp_path)


@pytest.mark.parametrize("wrong", ["1" + "0" * 400, "true", "-1", "1e31", '"3"', "null"])
def test_a_threshold_that_cannot_be_is_refused(tmp_path: Path, wrong: str) -> None:
    card = tiny.make_known_run(tmp_path / "run").path / CARD
    text = card.read_text("utf-8")
    card.write_text(re.sub(r'"threshold": [^,]+', f'"threshold": {wrong}', text), "utf-8")
    with pytest.raises(RunError, match=r"impossible value in: unknown|unknown\.threshold is 10{9}"):
        Run.open(card.parent, verify=False)


def test_a_neighbour_that_the_reference_lacks_is_refused(tmp_path: Path) -> None:
    rows, labels = embeddings(20, 4)
    small = Reference.fit(rows, np.minimum(labels, 2), labels, ["x"] * 20).to_bytes()
    run = tiny.make_run(tmp_path / "run", fields={"unknown": KNOWN | {"k": 21}}, reference=small)
    with pytest.raises(RunError, match="neighbour 21 of 20"):
        list(Predictor(run).predict([tiny.picture("red")]))


def test_scores_that_overflow_are_refused(tmp_path: Path) -> None:
    rows, labels = embeddings(20, 4)
    good = Reference.fit(rows, np.minimum(labels, 2), labels, ["x"] * 20)
    huge = replace(good, whitening=np.full((4, 4), 3e38, np.float32)).to_bytes()
    run = tiny.make_run(tmp_path / "run", fields={"unknown": KNOWN}, reference=huge)
    with pytest.raises(RunError, match="scores that are not finite"):
        list(Predictor(run).predict([tiny.picture("red")]))


def test_the_width_is_checked_without_a_threshold_too(tmp_path: Path) -> None:
    rows, labels = embeddings(20, 5)
    other = Reference.fit(rows, np.minimum(labels, 2), labels, ["x"] * 20).to_bytes()
    with pytest.raises(RunError, match="embeddings of 5 numbers"):
        _ = Predictor(tiny.make_run(tmp_path / "run", reference=other)).reference
