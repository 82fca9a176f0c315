"""The folds that choose the rung where few pictures validate: who answers what, what follows, going on between them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from tests.training.tiny import digest, last
from tests.transfer.climbing import SHORT, climb, history

from resight.commands.resume import resume
from resight.errors import DataError, Interrupted, OutOfMemory, UsageError
from resight.recipes import TrainConfig, override
from resight.runs import CONFIG, Run
from resight.samples import SampleSet
from resight.training.fit import Training
from resight.training.loader import Pictures
from resight.transfer import ladder, probe, weighing
from resight.transfer.features import frozen

FOLDS: dict[str, Any] = {**SHORT, "transfer.folds": 3}
RUINOUS: dict[str, Any] = {**FOLDS, "optimizer.lr": 3.0, "optimizer.layer_decay": 1, "model.norms": "train"}
Held = tuple[SampleSet, tuple[Pictures, Pictures]]


def config_of(run: Run) -> TrainConfig:
    return TrainConfig.from_json(run.file(CONFIG).read_bytes(), CONFIG)


@pytest.fixture
def perfect(monkeypatch: pytest.MonkeyPatch) -> list[Held]:
    """Fine-tuning that has every held-out picture right, and what it was given."""
    given: list[Held] = []

    def tuned(run: Run, config: TrainConfig, part: SampleSet, parts: tuple[Pictures, Pictures], *_: Any) -> Any:
        given.append((part, parts))
        return np.eye(len(part.classes), dtype=np.float32)[parts[1].labels]

    monkeypatch.setattr(weighing, "_tuned", tuned)
    return given


def test_fine_tuning_that_answers_held_out_pictures_worse_is_not_begun(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate that destroys the network."""
    run = climb(data, weights, tmp_path / "run", RUINOUS)
    config, about = config_of(run), run.card.transfer
    assert (config.transfer.rung, config.total_steps) == ("features", 0)
    assert [entry["epoch"] for entry in history(run)] == [0]
    assert last(run.path).optimizer == {}
    assert np.sum([row["pictures"] for row in about["folds"]], axis=0).tolist() == [16, 16, 16]
    assert weighing.score(about["folds"], "probe", False) > weighing.score(about["folds"], "tuned", False)
    assert all(np.all(np.array(row["both"]) <= np.minimum(row["probe"], row["tuned"])) for row in about["folds"])
    assert (about["kept"], about["epochs"]) == ("features", 0)
    assert about["why"].startswith("the probe has ")
    assert " of 48 training pictures held out in turn, fine-tuning " in about["why"]
    assert "which may be chance" not in about["why"]
    said = capsys.readouterr().err
    assert "validation has 6 pictures, too few to choose the rung by" in said
    assert "fold 3 of 3: of 15 pictures" in said or "fold 3 of 3: of 16 pictures" in said
    assert "the probe is the classifier" in said


def test_folds_have_the_updates_that_fix(data: Path, weights: Path, tmp_path: Path) -> None:
    run = climb(data, weights, tmp_path / "run", FOLDS | {"data.fix_share": 0.4})
    assert len(run.card.transfer["folds"]) == 3


def test_fine_tuning_that_answers_them_better_is_trained_with_all(
    data: Path, weights: Path, tmp_path: Path, perfect: list[Held]
) -> None:
    run = climb(data, weights, tmp_path / "run", FOLDS)
    assert (config_of(run).transfer.rung, config_of(run).total_steps) == ("lpft", 4)
    assert [entry["epoch"] for entry in history(run)] == [0, 1, 2]
    assert run.card.transfer["why"].endswith("fine-tuning 100.0 %")
    held = [sample.name for _, (_, val) in perfect for sample in val.samples]
    split = {line.split(",")[0].strip('"'): line for line in run.file("split.csv").read_text().splitlines()}
    assert len(held) == len(set(held)) == 48  # each once, and none that validates or tests
    assert all('"train"' in split[name] for name in held)
    for _, (train, val) in perfect:
        assert not {sample.name for sample in train.samples} & {sample.name for sample in val.samples}
        assert len(train) + len(val) == 48


def test_a_fold_that_runs_out_of_memory_goes_on_with_half_at_a_time(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned, sizes = weighing._tuned, []

    def small(run: Run, config: TrainConfig, *rest: Any) -> Any:
        sizes.append(config.micro_batch or config.batch)
        if sizes[-1] > 8:
            raise torch.OutOfMemoryError("out of memory")
        return tuned(run, config, *rest)

    monkeypatch.setattr(weighing, "_tuned", small)
    run = climb(data, weights, tmp_path / "run", FOLDS)
    assert len(run.card.transfer["folds"]) == 3
    assert sizes[:2] == [16, 8]
    assert "memory ran out: comparing the rungs with 8 pictures at a time" in capsys.readouterr().err

    def none(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(weighing, "_tuned", none)
    with pytest.raises(OutOfMemory, match="with 1 pictures at a time"):
        climb(data, weights, tmp_path / "none", FOLDS)


def test_the_probe_of_a_fold_has_seen_nothing_of_it(
    data: Path, weights: Path, tmp_path: Path, perfect: list[Held]
) -> None:
    """Beside a path that is fitted anew to features that are computed anew."""
    run = climb(data, weights, tmp_path / "run", FOLDS)
    config, penalty = config_of(run), run.card.transfer["probe"]["penalty"]
    for (part, (train, val)), row in zip(perfect, run.card.transfer["folds"], strict=True):
        found = frozen(config, part, train, val, lambda _: None)
        head = dict(probe.path(found.train, found.labels, 3))[penalty]
        right = head.logits(found.val[:, 0]).argmax(1) == found.truth
        assert abs(sum(row["probe"]) - int(right.sum())) <= 1  # the order of pictures rounds
        assert row["pictures"] == np.bincount(found.truth, minlength=3).tolist()


def row(pictures: list[int], probe: list[int], tuned: list[int], both: list[int]) -> dict[str, list[int]]:
    return {"pictures": pictures, "probe": probe, "tuned": tuned, "both": both}


@pytest.mark.parametrize(
    ("won", "lost", "better"),
    [(0, 0, False), (1, 0, False), (4, 0, False), (5, 0, True), (3, 8, False), (8, 3, False), (10, 3, True)],
)
def test_fine_tuning_must_be_better_by_more_than_chance(won: int, lost: int, better: bool) -> None:
    """Beside the one-sided sign test of SciPy, spread over folds and classes."""
    folds = [row([30, 20], [10 + lost, 5], [10, 5 + won], [10, 5]), row([25, 25], [5, 5], [5, 5], [5, 5])]
    assert weighing.better(folds, balanced=False) is better
    if won + lost:
        assert bool(binomtest(won, won + lost, 0.5, alternative="greater").pvalue <= 0.05) is better


def test_what_may_be_chance_is_called_so() -> None:
    lucky = [row([30], [13], [18], [10])]
    assert weighing.said(lucky, balanced=False) == (
        "the probe has 43.3 % of 30 training pictures held out in turn, fine-tuning 60.0 %, which may be chance"
    )
    assert weighing.said([row([30], [10], [18], [10])], balanced=True).endswith("fine-tuning 60.0 %")


def test_mean_recall_must_be_better_by_more_than_chance() -> None:
    """Fine-tuning wins many pictures of a large class and loses a small one; then the other way round. The error is
    that of independent classes, from the pictures one by one.
    """
    large = [row([200, 10], [100, 8], [150, 4], [90, 4])]
    assert weighing.better(large, balanced=False)
    assert not weighing.better(large, balanced=True)
    small = [row([200, 40], [120, 8], [110, 30], [100, 7])]
    assert weighing.better(small, balanced=True)
    for folds in (large, small):
        value, variance = 0.0, 0.0
        for n, probed, tuned, both in zip(*folds[0].values(), strict=True):
            gains = np.array(
                [1.0] * (tuned - both) + [-1.0] * (probed - both) + [0.0] * (n - tuned - probed + 2 * both)
            )
            value, variance = value + gains.mean() / 2, variance + gains.var() / n / 4
        assert weighing.better(folds, balanced=True) == (value > 1.645 * np.sqrt(variance))


@pytest.mark.parametrize("moment", ["in a fold", "between folds"])
def test_folds_that_are_done_are_kept(
    moment: str, data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal in the second fold; then the rest is done, to the same bits."""
    whole = climb(data, weights, tmp_path / "whole", FOLDS)
    update, evaluate, calls = Training.update, Training.evaluate, [0]

    def interrupted(training: Training, batch: Any) -> None:
        update(training, batch)
        calls[0] += 1
        if moment == "in a fold" and calls[0] == 4:  # three updates a fold
            os.kill(os.getpid(), signal.SIGTERM)

    def asked(training: Training, stop: Any) -> Any:
        found = evaluate(training, stop)
        if moment == "between folds" and calls[0] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Training, "update", interrupted)
        patch.setattr(Training, "evaluate", asked)
        with pytest.raises(Interrupted, match="while the rungs were compared"):
            climb(data, weights, tmp_path / "run", FOLDS)
    before = Run.open(tmp_path / "run", sealed=False).card.transfer.get("folds", [])
    assert len(before) == (1 if moment == "in a fold" else 0)
    run = resume(tmp_path / "run")
    assert run.card.transfer["folds"] == whole.card.transfer["folds"]
    assert run.card.transfer["folds"][: len(before)] == before
    assert digest(run.path) == digest(whole.path)


@pytest.mark.parametrize(("limit", "count"), [("FEW", 6), ("PLENTY", 48)])
def test_a_large_part_is_not_helped(
    limit: str,
    count: int,
    data: Path,
    weights: Path,
    tmp_path: Path,
    perfect: list[Held],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weighing, limit, count)
    run = climb(data, weights, tmp_path / "run", FOLDS)
    assert not perfect
    assert "folds" not in run.card.transfer


def test_where_folds_are_impossible_validation_decides(
    data: Path, weights: Path, tmp_path: Path, perfect: list[Held], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def refuse(*_: Any) -> Any:
        raise DataError("2 groups are fewer than 3 folds: a group is never divided")

    monkeypatch.setattr(weighing, "training_folds", refuse)
    run = climb(data, weights, tmp_path / "run", FOLDS)
    assert "by the 6 validation pictures alone: 2 groups are fewer" in capsys.readouterr().err
    assert config_of(run).transfer.folds == 0
    assert len(history(run)) == 3


@pytest.mark.parametrize(("fits", "steps", "folds"), [(9, 3, 3), (8, 3, 0), (2, 2, 0)])
def test_a_budget_pays_for_the_folds_or_does_without(
    fits: int, steps: int, folds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three folds of two thirds cost twice the training that may follow: three of its three steps must fit."""
    monkeypatch.setattr(ladder, "steps_for", lambda *_: fits)
    wishes = {"epochs": 1, "transfer.rung": "lpft", "transfer.head": "new", "transfer.folds": 3}
    config = override(TrainConfig(budget_seconds=60), wishes)
    run = SimpleNamespace(card=SimpleNamespace(transfer={"probe": {"seconds": 1.0}}))
    trial = SimpleNamespace(loader=SimpleNamespace(steps_per_epoch=3, pictures=[None] * 48), val=[None] * 6)
    said: list[str] = []
    ladder.decide_length(run, config, lambda _: trial, said.append)  # type: ignore[arg-type]
    assert (config.total_steps, config.transfer.folds) == (steps, folds)
    assert any("no time to compare the rungs: the 6 validation pictures choose" in text for text in said) == (not folds)


def test_the_score_is_accuracy_or_mean_recall() -> None:
    rows = [
        {"pictures": [6, 2, 0], "tuned": [6, 0, 0]},
        {"pictures": [4, 0, 0], "tuned": [2, 0, 0]},
    ]
    assert weighing.score(rows, "tuned", balanced=False) == pytest.approx(8 / 12)
    assert weighing.score(rows, "tuned", balanced=True) == pytest.approx((8 / 10 + 0) / 2)


def test_folds_without_the_ladder_have_no_effect(data: Path, weights: Path, tmp_path: Path) -> None:
    for recipe in ("finetune", "features"):
        with pytest.raises(UsageError, match=r"transfer\.folds has no effect"):
            climb(data, weights, tmp_path / "run", {"transfer.folds": 3}, recipe=recipe)
