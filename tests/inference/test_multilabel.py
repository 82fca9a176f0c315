from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.inference import tiny

from resight.errors import RunError, UsageError
from resight.inference import FORMATS, Prediction, Predictor, Reference, only_single, read_reference
from resight.inference.unknown import NEIGHBOURS, describe, whitening
from resight.inference.within import deviations, strata
from resight.runs import CARD, Run, Threshold
from resight.samples import cells

THRESHOLDS = (Threshold(0.7, 20, True), Threshold(0.6, 12, True), Threshold(0.5, 3, False))
FIELDS = {"task": "multi", "thresholds": THRESHOLDS}


def make_run(path: Path, **options: Any) -> Run:
    fields = FIELDS | options.pop("fields", {})
    model = tiny.graph(task="multi").SerializeToString()
    return tiny.make_run(path, model=model, fields=fields, **options)


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor(make_run(tmp_path / "run"), threads=1)


def white(level: int) -> np.ndarray:
    return np.full((10, 10, 3), level, np.uint8)


def test_the_labels_are_those_from_their_thresholds_on(predictor: Predictor) -> None:
    # the tiny network's logits are 6 · (blue, green, red), its temperature 2: sigmoid(3 · level)
    both = np.zeros((10, 10, 3), np.uint8)
    both[..., 2], both[..., 1] = 255, 40  # blue sigmoid(3) = 0.95, green sigmoid(0.47) = 0.62, red 0.5
    (found, none) = predictor.predict([both, np.zeros((10, 10, 3), np.uint8)], top=2)
    assert [name for name, _ in found.labels or ()] == ["blue", "green", "red"]
    assert [p for _, p in found.labels or ()] == pytest.approx([1 / (1 + np.exp(-3 * x)) for x in (1, 40 / 255, 0)])
    assert [name for name, _ in none.labels or ()] == ["red"]  # at its threshold, exactly
    assert (found.label, len(found.top)) == ("blue", 2)


def test_a_single_label_run_has_no_labels(tmp_path: Path) -> None:
    (found,) = Predictor(tiny.make_run(tmp_path / "run"), threads=1).predict([white(9)])
    assert found.labels is None
    assert "labels" not in json.loads("".join(FORMATS["jsonl"]([found])))


def test_a_graph_of_the_other_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not sigmoid\(logits / temperature\)"):
        Predictor(tiny.make_run(tmp_path / "run", fields=FIELDS))
    with pytest.raises(RunError, match=r"not softmax\(logits / temperature\)"):
        Predictor(tiny.make_run(tmp_path / "other", model=tiny.graph(task="multi").SerializeToString()))


@pytest.mark.parametrize(
    "change",
    [{"task": "several"}, {"thresholds": []}, {"thresholds": [{"value": 0.5}] * 2}, {"thresholds": [{"value": 7}] * 3}],
)
def test_a_card_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    path = make_run(tmp_path / "run").path / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match="impossible value in"):
        Run.open(path.parent)


def test_thresholds_come_back(tmp_path: Path) -> None:
    assert Run.open(make_run(tmp_path / "run").path).card.thresholds == THRESHOLDS


PREDICTIONS = [
    Prediction("bad.jpg", None, None, error="truncated"),
    Prediction("a.jpg", "x|y", 0.9, (("x|y", 0.9), ("=z", 0.8), ("w", 0.1)), labels=(("x|y", 0.9), ("=z", 0.8))),
    Prediction("b.jpg", "w", 0.3, (("w", 0.3), ("x|y", 0.2), ("=z", 0.1)), labels=()),
    Prediction("c.jpg", "w", 0.6, (("w", 0.6), ("x|y", 0.2), ("=z", 0.1)), labels=(("w", 0.6),), unknown=True),
]


def test_csv_has_a_column_of_labels() -> None:
    rows = list(csv.DictReader(io.StringIO("".join(FORMATS["csv"](PREDICTIONS)))))
    assert [row["labels"] for row in rows] == ["", r"x\|y|=z", "", "w"]
    assert cells.split(rows[1]["labels"]) == ("x|y", "=z")
    assert [row["error"] for row in rows] == ["truncated", "", "", ""]
    assert [row["class_1"] for row in rows] == ["", "x|y", "w", "w"]


def test_json_lists_the_labels() -> None:
    plain = json.loads("".join(FORMATS["json"](PREDICTIONS)))
    assert plain[1]["labels"] == [{"class": "x|y", "probability": 0.9}, {"class": "=z", "probability": 0.8}]
    assert plain[2]["labels"] == []
    assert "labels" not in plain[0]


def test_the_table_says_all_labels_or_none() -> None:
    lines = "".join(FORMATS["table"](PREDICTIONS)).splitlines()
    assert lines[1] == "a.jpg    x|y 90.0 %, =z 80.0 %  (not: w 10.0 %)"
    assert lines[2].split("  (not")[0].split() == ["b.jpg", "none"]
    assert "unknown (w 60.0 %?)" in lines[3]


def test_only_single(tmp_path: Path) -> None:
    only_single(tiny.make_run(tmp_path / "one"), "--tta")
    with pytest.raises(UsageError, match="--tta is for Runs that answer with one class a picture"):
        only_single(make_run(tmp_path / "run"), "--tta")


def test_pictures_of_one_label_each_are_whitened_as_ever() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 4
    rows = (random.normal(size=(60, 7)) + labels[:, None]).astype(np.float32)
    hot = np.eye(4, dtype=np.uint8)[labels]
    own, taken = deviations(rows, labels)
    other, taken_too = deviations(rows, hot)
    assert taken == taken_too == 4
    assert other == pytest.approx(own, abs=1e-12)
    # eigenvectors may turn round: the covariances are compared
    one, two = whitening(rows, labels), whitening(rows, hot)
    assert two @ two.T == pytest.approx(one @ one.T, rel=1e-4)


def test_what_labels_add_is_taken_off() -> None:
    random = np.random.default_rng(1)
    labels = (random.random((300, 3)) < 0.4).astype(np.uint8)
    noise = random.normal(size=(300, 5))
    rows = 10 * labels @ random.normal(size=(3, 5)) + noise + 7
    own, taken = deviations(rows, labels)
    assert taken == 4
    assert np.abs(own - (noise - noise.mean(axis=0))).max() < 1
    assert own.sum(axis=0) == pytest.approx(np.zeros(5), abs=1e-9)


def test_the_rarest_label_balances_a_choice() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]], np.uint8)
    assert strata(labels).tolist() == [1, 0, 2, 3, 1]
    assert strata(np.array([2, 0])).tolist() == [2, 0]


def test_a_reference_of_several_labels_comes_back(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    labels = (random.random((40, 3)) < 0.5).astype(np.uint8)
    rows = random.normal(size=(40, 4)).astype(np.float32)
    reference = Reference.fit(rows, labels, np.arange(40), [f"{k}.png" for k in range(40)])
    unknown = describe(reference.scorer(NEIGHBOURS)(rows + 0.1), 40)
    run = make_run(tmp_path / "run", reference=reference.to_bytes(), fields={"unknown": unknown})
    assert np.array_equal(read_reference(run).labels, labels)
    (found,) = Predictor(run, threads=1).predict([white(200)])
    assert found.unknown is not None
    assert found.labels
    one = Reference.fit(rows, np.zeros(40, np.int64), np.arange(40), [f"{k}.png" for k in range(40)])
    with pytest.raises(RunError, match="labels that the Run's classes do not have"):
        read_reference(make_run(tmp_path / "other", reference=one.to_bytes()))
