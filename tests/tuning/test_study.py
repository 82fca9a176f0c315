"""The search with trainings that take no time: what is kept, proposed, stopped, repeated, removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from resight.errors import DataError, Interrupted, NonFiniteLoss, OutOfMemory, ResightError, RunError, UsageError
from resight.recipes import Facts, override, recipe
from resight.reporting.tuning import study_figure
from resight.runs import CHECKPOINTS
from resight.training.progress import Silent
from resight.tuning.findings import findings, importance, to_text
from resight.tuning.journal import JOURNAL, finished, open_journal
from resight.tuning.repeats import repeat, winner
from resight.tuning.space import dimensions
from resight.tuning.study import BEST, STUDY, Asked, Study, check_place, open_study, read_study, search
from resight.tuning.watch import Watcher, kept, score

EPOCHS = 6
CONFIG = recipe("quick", Facts(2000, 10, 32))


def quality(wishes: Mapping[str, Any]) -> float:
    """The accuracy that these settings reach: best at a rate of 0.1."""
    import math

    rate = wishes.get("optimizer.lr", CONFIG.optimizer.lr)
    return 0.9 - 0.1 * abs(math.log10(rate / 0.1)) - wishes.get("augment.mixup", 0.0) / 100


def trainer(stop: Callable[[Path, int], None] = lambda path, epoch: None) -> Any:
    """A training that saves each epoch in its folder, and goes on from there; ``stop`` may raise before an epoch."""

    def train(path: Path, wishes: Mapping[str, Any], trial: Any) -> list[dict[str, Any]]:
        log = path / "epochs.json"
        (path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        history = json.loads(log.read_text()) if log.exists() else []
        watcher = Watcher(Silent(), trial, "accuracy", list(history))
        watcher.start(len(history), EPOCHS, 1)
        for epoch in range(len(history) + 1, EPOCHS + 1):
            stop(path, epoch)
            accuracy = quality(wishes) * epoch / EPOCHS + 0.001 * wishes.get("seed", 0)
            entry = {"epoch": epoch, "step": epoch, "val_accuracy": accuracy, "val_loss": 1 - accuracy}
            history.append(entry)
            log.write_text(json.dumps(history))
            watcher.epoch(entry, True)
        return history

    return train


def asked(**changes: Any) -> Asked:
    plain = {"data": "flowers", "recipe": None, "wishes": {}, "space": ["lr", "mixup"], "objective": "accuracy"}
    more = {"trials": 12, "budget_seconds": 0.0, "seeds": 0, "fingerprint": "f"}
    return Asked(**{**plain, **more, **changes})


def open_(folder: Path, **changes: Any) -> Study:
    folder.mkdir(exist_ok=True)
    wanted = asked(**changes)
    return open_study(folder, wanted, CONFIG, dimensions(CONFIG, wanted.space, small=True), EPOCHS)


def outcome(study: Study) -> list[tuple[Any, ...]]:
    return [(t.number, t.state.name, t.value, t.params, t.intermediate_values) for t in study.journal.get_trials()]


def said(_: str) -> None: ...


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = open_(tmp_path_factory.mktemp("straight"))
    search(study, trainer(), said)
    return study


# ── what is kept ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_trial_is_the_recipe_and_the_best_is_better(straight: Study) -> None:
    trials = finished(straight.journal)
    assert len(trials) == 12
    assert straight.settings(trials[0]) == {}
    assert trials[0].value == pytest.approx(quality({}))
    best = winner(straight, [])
    assert best.value is not None
    assert best.value >= quality({})
    assert best.value == max(t.value for t in trials if t.value is not None)
    assert {t.state.name for t in trials} == {"COMPLETE", "PRUNED"}


@pytest.mark.parametrize("how", ["signal", "crash"])
def test_an_interrupted_study_ends_as_an_uninterrupted_one(tmp_path: Path, straight: Study, how: str) -> None:
    """Stopped at several moments, each time with everything opened anew: equal trials, equal values, none lost."""
    moments = [("trial-0000", 3), ("trial-0004", 1), ("trial-0007", 2), ("trial-0008", 1)]

    def stop(path: Path, epoch: int) -> None:
        if moments and (path.name, epoch) == moments[0]:
            moments.pop(0)
            raise (
                Interrupted("stopped", signal_number=15) if how == "signal" else KeyError("a bug, or the end of power")
            )

    before: list[tuple[Any, ...]] = []
    for _ in range(5):
        study = open_(tmp_path / "study")
        ended = [row for row in outcome(study) if row[1] != "RUNNING"]
        assert ended == [row for row in before if row[1] != "RUNNING"]
        try:
            search(study, trainer(stop), said)
        except (Interrupted, KeyError):
            before = outcome(study)
            assert [row[1] for row in before].count("RUNNING") == 1
    assert not moments
    assert outcome(study) == outcome(straight)


def test_epochs_that_were_saved_but_not_told_are_judged(tmp_path: Path, straight: Study) -> None:
    """Killed between an epoch's save and its line in the journal: the trial is pruned where the other one was."""
    pruned = next(t for t in finished(straight.journal) if t.state.name == "PRUNED")
    last = len(pruned.intermediate_values)

    class Killed(BaseException):
        pass

    real = optuna.trial.Trial.report

    def report(self: Any, value: float, step: int) -> None:
        if self.number == pruned.number and step == last and not killed:
            killed.append(True)
            raise Killed
        real(self, value, step)

    killed: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.trial.Trial, "report", report)
        with pytest.raises(Killed):
            search(open_(tmp_path / "study"), trainer(), said)
        study = open_(tmp_path / "study")
        search(study, trainer(), said)
    assert killed
    assert outcome(study) == outcome(straight)


def test_more_trials_go_on_where_fewer_ended(tmp_path: Path, straight: Study) -> None:
    search(open_(tmp_path / "study", trials=5), trainer(), said)
    study = open_(tmp_path / "study", trials=12)
    search(study, trainer(), said)
    assert outcome(study) == outcome(straight)


def test_other_settings_and_other_data_are_refused(tmp_path: Path) -> None:
    search(open_(tmp_path / "study", trials=1), trainer(), said)
    with pytest.raises(UsageError, match="objective was 'accuracy' and is 'loss'"):
        open_(tmp_path / "study", objective="loss")
    with pytest.raises(UsageError, match="dimensions was"):
        open_(tmp_path / "study", space=["lr"])
    with pytest.raises(DataError, match="changed"):
        open_(tmp_path / "study", fingerprint="g")


def test_where_a_study_may_be(tmp_path: Path) -> None:
    check_place(tmp_path / "new")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / ".lock").touch()
    check_place(tmp_path / "begun")
    (tmp_path / "begun" / "holiday.txt").touch()
    with pytest.raises(UsageError, match="not empty"):
        check_place(tmp_path / "begun")
    with pytest.raises(UsageError, match="not empty"):
        check_place(tmp_path / "begun" / "holiday.txt")
    with pytest.raises(RunError, match="not a study"):
        read_study(tmp_path)
    (tmp_path / STUDY).write_text('{"version": 99}')
    with pytest.raises(RunError, match="version 99"):
        read_study(tmp_path)


# ── the journal ────────────────────────────────────────────────────────────────────────────────────────────────


def test_half_a_last_line_is_cut_off_anywhere(tmp_path: Path, straight: Study) -> None:
    """Whatever byte the last write ended at, all trials before are there and another one can be written."""
    content = (straight.path / JOURNAL).read_bytes()
    start = content.rindex(b"\n", 0, -1) + 1
    before = len([line for line in content[:start].splitlines() if b'"op_code":6' in line])
    for end in range(start, len(content), 23):
        (tmp_path / JOURNAL).write_bytes(content[:end])
        study = open_journal(tmp_path, maximize=True, warmup=2)
        assert len(finished(study)) == before
        study.add_trial(optuna.create_trial(value=0.5))
        again = open_journal(tmp_path, maximize=True, warmup=2)
        assert len(finished(again)) == before + 1


def test_a_damaged_line_inside_is_refused(tmp_path: Path, straight: Study) -> None:
    lines = (straight.path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"".join([lines[0], b"{half\n", *lines[1:]]))
    with pytest.raises(RunError, match="line 2 is damaged"):
        open_journal(tmp_path, maximize=True, warmup=2)


def test_a_trial_begins_with_one_line(tmp_path: Path) -> None:
    """All of its values or none: nothing that a kill could leave half."""
    study = open_(tmp_path / "study")
    journal = study.path / JOURNAL
    before = len(journal.read_text().splitlines())
    seen = []

    def stop(path: Path, epoch: int) -> None:
        seen.extend(journal.read_text().splitlines()[before:])
        raise KeyError

    with pytest.raises(KeyError):
        search(study, trainer(stop), said)
    assert len(seen) == 1
    assert set(json.loads(seen[0])["params"]) == {"optimizer.lr", "augment.mixup", "label_smoothing"}


def test_optuna_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    search(open_(tmp_path / "study", trials=3), trainer(), said)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


# ── ends ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_time_ends_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of 10 s by a clock of ours: three fit into 35 s; with one other seed for four, none after the first."""
    clock = [0.0]

    def stop(path: Path, epoch: int) -> None:
        clock[0] += 10 / EPOCHS

    monkeypatch.setattr("resight.tuning.study.time", SimpleNamespace(monotonic=lambda: clock[0]))
    study = open_(tmp_path / "study", trials=0, budget_seconds=35.0)
    search(study, trainer(stop), said)
    assert len(finished(study.journal)) == 3
    assert read_study(study.path)["spent_seconds"] == pytest.approx(30)
    again = open_(tmp_path / "study", trials=0, budget_seconds=45.0)  # a later call goes on counting
    search(again, trainer(stop), said)
    assert len(finished(again.journal)) == 4
    other = open_(tmp_path / "other", trials=0, budget_seconds=35.0, seeds=1)
    search(other, trainer(stop), said)
    assert len(finished(other.journal)) == 1


def test_a_loss_that_explodes_ends_the_trial_not_the_study(tmp_path: Path) -> None:
    def stop(path: Path, epoch: int) -> None:
        if path.name in ("trial-0001", "trial-0002") and epoch == 2:
            raise NonFiniteLoss("the loss became nan at step 2")

    study = open_(tmp_path / "study", trials=4)
    search(study, trainer(stop), said)
    found = findings(study, [], 100)
    assert [row["state"] for row in found["trials"]] == ["complete", "pruned", "pruned", "complete"]
    assert "the loss became nan" in to_text(found)


def test_nothing_came_to_its_end(tmp_path: Path) -> None:
    def stop(path: Path, epoch: int) -> None:
        raise NonFiniteLoss("nan")

    study = open_(tmp_path / "study", trials=2)
    search(study, trainer(stop), said)
    assert findings(study, [], 100)["best"] is None
    with pytest.raises(UsageError, match="no trial came to its end"):
        winner(study, [])


def test_checkpoints_stay_of_the_best_and_the_first(straight: Study) -> None:
    best = {trial.number for trial in straight.complete()[:BEST]}
    left = {number for number in range(12) if (straight.folder(number) / CHECKPOINTS).exists()}
    assert left == best | {0}


# ── other seeds, findings ──────────────────────────────────────────────────────────────────────────────────────


def test_other_seeds_decide(tmp_path: Path) -> None:
    """The trial that was best by luck is not chosen; what is repeated is not trained again."""
    study = open_(tmp_path / "study", trials=6, seeds=2)
    search(study, trainer(), said)
    lucky = study.complete()[0].number
    trained = []

    def train(path: Path, wishes: Mapping[str, Any], trial: Any) -> list[dict[str, Any]]:
        assert trial is None
        trained.append((path.name, wishes["seed"]))
        bad = path.name.startswith(f"trial-{lucky:04d}")
        accuracy = quality(wishes) - (0.5 if bad else 0.0) + 0.02 * wishes["seed"]
        return [{"epoch": 1, "step": 1, "val_accuracy": accuracy, "val_loss": 1.0}]

    repeated = repeat(study, train, said)
    numbers = {trial.number for trial in study.complete()[:BEST]} | {0}
    assert {one.number for one in repeated} == numbers
    assert sorted(trained) == sorted((f"trial-{n:04d}-seed-{k}", k) for n in numbers for k in (1, 2))
    chosen = winner(study, repeated)
    assert chosen.number != lucky
    first = repeated[0]
    assert first.mean == pytest.approx(sum(s for s in first.scores if s is not None) / 2)
    assert first.deviation == pytest.approx(0.02 / 2**0.5)
    text = to_text(findings(study, repeated, 100))
    assert f"trial {first.number}" in text.split("other seeds")[1]


@pytest.mark.parametrize("error", [NonFiniteLoss("the loss became nan"), OutOfMemory("memory ran out")])
def test_a_repetition_without_a_score_is_not_trained_again(tmp_path: Path, error: ResightError) -> None:
    search(open_(tmp_path / "study", trials=1), trainer(), said)
    calls = []

    def train(path: Path, wishes: Mapping[str, Any], trial: Any) -> list[dict[str, Any]]:
        calls.append(path.name)
        raise error

    study = open_(tmp_path / "study", trials=1, seeds=2)
    found = repeat(study, train, said)
    assert found[0].scores == (None, None)
    lines: list[str] = []
    assert repeat(open_(tmp_path / "study", trials=1, seeds=2), train, lines.append) == found
    assert calls == ["trial-0000-seed-1", "trial-0000-seed-2"]
    assert lines == [f"trial 0 with seed {seed}: {error.message}" for seed in (1, 2)]
    assert "no score" in to_text(findings(study, found, 100))


def test_the_start_of_the_ladder_is_epoch_zero(tmp_path: Path) -> None:
    """Mean recall is the score where it chooses the epoch; epochs are those that were trained."""

    def train(path: Path, wishes: Mapping[str, Any], trial: Any) -> list[dict[str, Any]]:
        history: list[dict[str, Any]] = []
        watcher = Watcher(Silent(), trial, "accuracy")
        watcher.start(0, 2, 1)
        for epoch in range(3):
            entry = {"epoch": epoch, "step": epoch, "val_accuracy": 0.9, "val_recall": (4 + epoch) / 10, "val_loss": 1}
            watcher.epoch(entry, True)
            history.append(entry)
        return history

    config = override(CONFIG, {"select": "balanced"})
    study = open_study(tmp_path, asked(trials=1), config, dimensions(config, ["lr"], small=True), 2)
    search(study, train, said)
    found = findings(study, [], 100)
    row = found["trials"][0]
    assert finished(study.journal)[0].intermediate_values == pytest.approx({0: 0.4, 1: 0.5, 2: 0.6})
    assert (row["epochs"], row["first_epoch"], row["score"], row["val_recall"]) == (2, 0, 0.6, 0.6)
    text = to_text(found)
    assert "val mean recall" in text
    assert "validation mean recall 60.00 %, accuracy 90.00 %" in text
    axes = study_figure(found, {"optimizer.lr": "log"}).subfigs[0].axes
    assert axes[0].get_ylabel() == "validation mean recall in %"
    assert axes[1].lines[0].get_xdata().tolist() == [0, 1, 2]  # type: ignore[union-attr]


def test_importance_finds_what_matters(straight: Study, tmp_path: Path) -> None:
    assert importance(open_(tmp_path / "none")) is None
    study = open_(tmp_path / "study", trials=16)
    study.journal.pruner = optuna.pruners.NopPruner()
    search(study, trainer(), said)
    shares = importance(study)
    assert shares is not None
    assert next(iter(shares)) == "optimizer.lr"
    assert sum(shares.values()) == pytest.approx(1)


def test_the_kept_epoch_is_the_one_whose_weights_stay() -> None:
    history = [
        {"val_accuracy": 0.5, "val_loss": 0.2},
        {"val_accuracy": 0.7, "val_loss": 0.9},
        {"val_accuracy": 0.7, "val_loss": 0.8},
        {"val_accuracy": 0.6, "val_loss": 0.1},
    ]
    assert kept(history) is history[2]
    assert score(history, "accuracy") == 0.7
    assert score(history, "loss") == 0.8
    balanced = [{**entry, "val_recall": recall} for entry, recall in zip(history, (0.1, 0.2, 0.2, 0.3), strict=True)]
    assert kept(balanced) is balanced[3]  # as the loop has it with select=balanced
    assert score(balanced, "accuracy") == 0.3
    assert score(balanced, "loss") == 0.1
