"""A cross-validation as it is read: answers joined over folds, and what is not one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.inference import tiny

from resight.doctor import suspects
from resight.errors import RunError
from resight.evaluation import softmax
from resight.runs import PREDICTIONS, SPLIT, CrossValidation, Run, is_crossval, out_of_fold, stored
from resight.runs.crossval import PLAN, read_plan
from resight.samples import SampleSet, fold_sets, load, split_csv

PLAIN: dict[str, Any] = {"schema": 1, "status": "training", "folds": 2, "data": {}, "settings": {}}


def fold_runs(
    root: Path, sets: list[SampleSet], logits: NDArray[np.float32], classes: tuple[str, ...] = tiny.CLASSES
) -> list[Run]:
    """Runs that answered their test part with these ``logits`` (pictures, classes), by position in the data set."""
    sealed = tiny.make_run(root / "sealed", classes=classes)
    runs = []
    for number, fold in enumerate(sets, start=1):
        run = Run.create(root / f"fold-{number}", replace(sealed.card, status="training", files={}))
        split_csv.write(run.path / SPLIT, fold)
        tested = np.array([k for k, sample in enumerate(fold.samples) if sample.split == "test"])
        labels = np.array([fold.samples[k].label for k in tested])
        np.savez(run.path / PREDICTIONS, test_logits=logits[tested], test_labels=labels, test_indices=tested)
        runs.append(run)
    return runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "data", each=6)


def test_answers_are_joined_fold_after_fold(tmp_path: Path, folder: Path) -> None:
    samples = load(folder, val_fraction=0, test_fraction=0)
    sets, _ = fold_sets(samples, 3, 0, 0.2)
    logits = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)
    runs = fold_runs(tmp_path, sets, logits)
    answers, folds = out_of_fold(runs)
    assert folds.tolist() == [1] * 6 + [2] * 6 + [3] * 6
    assert sorted(answers.indices.tolist()) == list(range(18))
    np.testing.assert_array_equal(answers.logits, logits[answers.indices])
    for row, label, index in zip(answers.rows, answers.labels, answers.indices, strict=True):
        assert row.source == samples.samples[index].source
        assert samples.classes[label] == row.label
    assert stored(runs[0], "val") is None


@pytest.mark.parametrize("wrong", [-1, 3, 0.5])
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, folder: Path, wrong: float) -> None:
    """−1 would be the last class."""
    sets, _ = fold_sets(load(folder, val_fraction=0, test_fraction=0), 3, 0, 0.2)
    run = fold_runs(tmp_path, sets, np.zeros((18, 3), np.float32))[0]
    with np.load(run.path / PREDICTIONS) as arrays:
        kept = dict(arrays)
    kept["test_labels"] = np.where(kept["test_labels"] == 2, wrong, kept["test_labels"])
    if wrong != 0.5:
        kept["test_labels"] = kept["test_labels"].astype(np.int64)
    np.savez(run.path / PREDICTIONS, **kept)
    with pytest.raises(RunError, match=r"predictions.npz is not sound: labels (from|are float64)"):
        stored(run, "test")
    several = Run(run.path, replace(run.card, task="multi"))
    with pytest.raises(RunError, match="any number of labels"):
        stored(several, "test")


def test_suspects_are_sought_among_all_pictures_with_one_threshold(tmp_path: Path, folder: Path) -> None:
    """A wrong label in each fold is found; thresholds are means over all folds, not of one."""
    samples = load(folder, val_fraction=0, test_fraction=0)
    sets, _ = fold_sets(samples, 3, 0, 0.2)
    labels = np.array([sample.label for sample in samples.samples])
    logits = np.where(np.eye(3)[labels] > 0, 3.0, 0.0).astype(np.float32)
    wrong = [next(k for k, s in enumerate(fold.samples) if s.split == "test") for fold in sets]
    for position in wrong:
        logits[position] = np.roll(logits[position], 1)
    result = CrossValidation(tmp_path, PLAIN, tuple(fold_runs(tmp_path, sets, logits)))
    (finding,) = suspects.findings(samples, result)
    assert sorted(finding.pictures) == sorted(wrong)
    assert "(3 of 18 asked)" in finding.title
    confident = suspects.find(softmax(logits), labels)
    assert {k for k in range(18) if confident[k] not in (-1, labels[k])} == set(finding.pictures)


def test_runs_that_are_no_folds_of_one_split(tmp_path: Path, folder: Path) -> None:
    samples = load(folder, val_fraction=0, test_fraction=0)
    sets, _ = fold_sets(samples, 3, 0, 0.2)
    logits = np.zeros((18, 3), np.float32)
    runs = fold_runs(tmp_path / "a", sets, logits)
    with pytest.raises(RunError, match="6 pictures are in the test parts of two folds"):
        out_of_fold([*runs, runs[0]])
    other = tiny.make_run(tmp_path / "other", classes=("x", "y", "z"))
    renamed = Run(runs[1].path, replace(runs[1].card, classes=other.classes))
    with pytest.raises(RunError, match="labels are others"):
        out_of_fold([runs[0], renamed])
    with pytest.raises(RunError, match=r"has no predictions\.npz"):
        out_of_fold([runs[0], other])
    np.savez(runs[2].path / PREDICTIONS, val_logits=logits)
    with pytest.raises(RunError, match="no test part"):
        out_of_fold(runs)
    np.savez(runs[2].path / PREDICTIONS, test_logits=logits, test_labels=[0], test_indices=[0])
    with pytest.raises(RunError, match="do not fit"):
        out_of_fold(runs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "schema 1"),
        (json.dumps(PLAIN | {"schema": 2}), "schema 1"),
        (json.dumps(PLAIN | {"folds": "many"}), "lacks a field"),
        (json.dumps(PLAIN | {"status": "lost"}), "lacks a field"),
        (json.dumps({k: v for k, v in PLAIN.items() if k != "data"}), "lacks a field"),
    ],
)
def test_what_is_no_cross_validation(tmp_path: Path, text: str, message: str) -> None:
    assert not is_crossval(tmp_path)
    (tmp_path / PLAN).write_text(text)
    assert is_crossval(tmp_path)
    with pytest.raises(RunError, match=message):
        read_plan(tmp_path)


def test_an_unfinished_one_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / PLAN).write_text(json.dumps(PLAIN))
    with pytest.raises(RunError, match="not complete"):
        CrossValidation.open(tmp_path)
    (tmp_path / PLAN).write_text(json.dumps(PLAIN | {"status": "complete"}))
    with pytest.raises(RunError, match="fold-1 is not a Run"):
        CrossValidation.open(tmp_path)
