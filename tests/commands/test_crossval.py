"""``crossval``: whole, resumed, refused; its numbers are those of the pooled answers, its pages harmless."""

from __future__ import annotations

import csv
import functools
import hashlib
import inspect
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.inference import tiny
from tests.reporting.browser import DESKTOP, PHONE, opened
from tests.training.tiny import digest, write_patterns
from typer.testing import CliRunner

pytest.importorskip("torch")

from resight.cli import app, folds, making
from resight.commands import crossval as command
from resight.commands.crossval import crossval
from resight.commands.crossval_asked import Asked
from resight.commands.doctor import examine
from resight.commands.predict import resolve_run
from resight.commands.resume import resume
from resight.commands.train import train
from resight.errors import DataError, Interrupted, RunError, RunLocked, UsageError
from resight.evaluation import corrected_t, evaluate
from resight.inference import unescape_cell
from resight.recipes import TrainConfig, check_effects, override
from resight.runs import CARD, CHECKPOINTS, CONFIG, ONNX, PREDICTIONS, SPLIT, WEIGHTS, CrossValidation, Run, stored
from resight.runs.crossval import PLAN
from resight.runs.storage import exclusive
from resight.samples import load, split_csv

OPTIONS: dict[str, Any] = {"model": "resnet20", "batch": 8, "workers": 0, "device": "cpu"}
SETTINGS: dict[str, Any] = {"model.options.stem": "tiny", "total_steps": 6, "threads": 1}
HOSTILE = "<img src=x onerror=alert(1)>"


def quick(data: Path, out: Path | None, fields: dict[str, Any] | None = None, **options: Any) -> CrossValidation:
    return crossval(data, out=out, set=SETTINGS | (fields or {}), **{"folds": 3} | OPTIONS | options)


@contextmanager
def stopped_in(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A signal in the middle of fold ``number``: its training state is saved."""
    from resight.training.fit import Training

    update, save_at = Training.update, 3

    def interrupted(self: Any, *given: Any) -> Any:
        found = update(self, *given)
        if self.run.path.name == f"fold-{number}" and self.state.step == save_at:
            self.save()
            raise Interrupted("stopped at step 3 of 6, saved", signal_number=2, hint="…")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Training, "update", interrupted)
        yield


def content(path: Path) -> dict[str, str]:
    """The hash of every file of a Run."""
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in path.iterdir() if f.is_file()}


# ── the whole way, once ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_patterns(tmp_path_factory.mktemp("data") / "patterns", each=12)
    (root / "rows").rename(root / HOSTILE)
    return root


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    """Stopped in the middle of the second fold, and gone on with by the same call."""
    out = tmp_path_factory.mktemp("out") / "cv"
    with pytest.MonkeyPatch.context() as patch:
        with stopped_in(2, patch), pytest.raises(Interrupted, match="fold 2 of 3: stopped at step 3") as stopped:
            quick(data, out)
        assert stopped.value.exit_code == 130
        first = content(out / "fold-1")
        assert json.loads((out / PLAN).read_text())["status"] == "training"
        with pytest.raises(RunError, match="not complete"):
            CrossValidation.open(out)
        result = quick(data, out)
        assert content(out / "fold-1") == first  # kept, bit for bit
    return result


def test_every_fold_is_an_ordinary_sealed_run(whole: CrossValidation, data: Path) -> None:
    assert [run.path.name for run in whole.runs] == ["fold-1", "fold-2", "fold-3"]
    tested = []
    for number, run in enumerate(whole.runs, start=1):
        assert Run.open(run.path).card == run.card
        assert sum(run.card.data["counts"].values()) == 36
        table = split_csv.read(run.path / SPLIT)
        assert table == split_csv.read(whole.path / "splits" / f"fold-{number}.csv")
        tested += [row.source for row in table.values() if row.split == "test"]
    assert sorted(tested) == sorted(p.relative_to(data).as_posix() for p in data.rglob("*.png"))


def test_a_fold_is_what_train_makes_of_its_split(
    whole: CrossValidation, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third fold, and the second, which was interrupted: the same weights, bit for bit."""

    def seal(run: Run, *_: Any) -> None:
        for name in (WEIGHTS, ONNX):
            (run.path / name).write_bytes(b"not tested here")
        run.seal()

    monkeypatch.setattr("resight.exporting.seal.seal", seal)
    monkeypatch.setattr("resight.commands.resume._summary", lambda run, say: None)
    for number in (2, 3):
        split = whole.path / "splits" / f"fold-{number}.csv"
        alone = train(data, split=split, out=tmp_path / f"alone-{number}", set=SETTINGS, **OPTIONS)
        assert digest(alone.path) == digest(whole.runs[number - 1].path)


def test_pooled_metrics_are_those_of_all_answers_together(whole: CrossValidation) -> None:
    parts = [stored(run, "test") for run in whole.runs]
    logits = np.concatenate([part.logits for part in parts if part])
    labels = np.concatenate([part.labels for part in parts if part])
    expected = evaluate(logits, labels, whole.classes).to_dict()
    written = json.loads((whole.path / PLAN).read_text())
    assert written["status"] == "complete"
    assert written["metrics"]["pooled"] == json.loads(json.dumps(expected))
    accuracies = [run.metrics.top1 for run in whole.runs]
    found = written["metrics"]["folds"]["accuracy"]
    assert found["values"] == accuracies
    assert whole.value("accuracy") == pytest.approx(np.mean(accuracies))
    assert found["deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    with pytest.raises(RunError, match="no 'luck'"):
        whole.value("luck")


def test_the_corrected_interval_counts_what_was_learned_from(whole: CrossValidation) -> None:
    """36 pictures were tested and 66 learned from: six of each fold's 24 validated."""
    accuracies = [run.metrics.top1 for run in whole.runs]
    counts = [run.card.data["counts"] for run in whole.runs]
    learned = sum(each["train"] for each in counts)
    assert learned < 2 * 36
    found = whole.content["metrics"]["folds"]["accuracy"]["mean"]
    expected = corrected_t(accuracies, 36 / learned)
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    assert (expected.low, expected.high) != tuple(corrected_t(accuracies, 1 / 2).__dict__[k] for k in ("low", "high"))
    assert f"{36 / learned:.3f} here" in (whole.path / "report.html").read_text("utf-8")


def test_a_cross_validation_is_not_taken_for_a_run(whole: CrossValidation) -> None:
    with pytest.raises(RunError, match=r"is a cross-validation, .*\s.*fold-1"):
        resolve_run(whole.path)
    assert resolve_run(whole.path / "fold-1").card == whole.runs[0].card


def test_pictures_are_checked_with_the_channels_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of --channels and of --set: what the folds are decided by is what training will read."""
    root = write_patterns(tmp_path / "patterns", each=6)
    for channels, asked in ((3, {"data.channels": 3}), (5, {}), (4, {"data.channels": "4"})):
        options = {"channels": 5} if channels == 5 else {}
        assert Asked.of(root, 3, 0, asked, options).channels == channels
    seen = []

    def check(samples: Any, skip_bad: bool, say: Any, channels: int = 0) -> Any:
        seen.append(channels)
        raise DataError("enough")

    monkeypatch.setattr("resight.training.prepare.check", check)
    for wishes in ({"fields": {"data.channels": 1}}, {"channels": 4}, {}):
        with pytest.raises(DataError, match="enough"):
            quick(root, tmp_path / "cv", **wishes)  # type: ignore[arg-type]
    assert seen == [1, 4, 0]


def test_the_table_has_every_picture_once(whole: CrossValidation) -> None:
    with open(whole.path / "out_of_fold.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["source", "fold", "label", "answer", "probability", "label_probability"]
    assert len({row["source"] for row in rows}) == len(rows) == 36
    right = np.mean([row["label"] == row["answer"] for row in rows])
    assert right == pytest.approx(
        json.loads((whole.path / PLAN).read_text())["metrics"]["pooled"]["metrics"]["accuracy"]["value"]
    )
    for row in rows:
        assert unescape_cell(row["source"]).startswith(unescape_cell(row["label"]) + "/")
        assert 0 <= float(row["label_probability"]) <= float(row["probability"]) <= 1
        assert row["fold"] in "123"


def test_the_page(whole: CrossValidation) -> None:
    page = whole.path / "report.html"
    for size in (DESKTOP, PHONE):
        with opened(page, size) as seen:
            assert (seen.dialogs, seen.errors, seen.overflow, seen.broken_pictures) == ([], [], 0, 0)
            assert [url for url in seen.requests if not url.startswith(("data:", "file:"))] == []
            assert HOSTILE in seen.text
            assert "Bengio and Grandvalet 2004" in seen.text
            assert "36 pictures, each answered once" in seen.text
            links = seen.page.eval_on_selector_all("a", "all => all.map(a => a.getAttribute('href'))")
            assert links == [f"fold-{number}/report.html" for number in (1, 2, 3)]
            assert all((whole.path / link).is_file() for link in links)


def test_the_same_call_again_changes_nothing_and_says_it_on_the_command_line(
    whole: CrossValidation, data: Path
) -> None:
    before = content(whole.path)
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    arguments = ["crossval", str(data), "--folds", "3", "--model", "resnet20", "--workers", "0", "--device", "cpu"]
    arguments += [*settings, "--out", str(whole.path)]
    assert quick(data, whole.path).content == whole.content
    assert content(whole.path) == before
    # numbers that were typed are texts: other settings, as recorded, than numbers from Python
    done = CliRunner().invoke(app, [*arguments, "--batch", "16", "--json"])
    assert isinstance(done.exception, RunError)
    assert "batch was 8 and is 16" in str(done.exception)


def test_doctor_asks_about_every_picture(whole: CrossValidation, data: Path) -> None:
    """Against the definition, on the answers as they are stored."""
    parts = [stored(run, "test") for run in whole.runs]
    asked = sum(len(part.rows) for part in parts if part)
    for given in (whole, whole.path):
        found = [finding for finding in examine(data, run=given).findings if finding.kind == "suspects"]
        assert not found or f"of {asked} asked" in found[0].title
    assert asked == 36


# ── what is refused, and what is kept ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Training replaced by a note of what was asked for."""
    asked: list[dict[str, Any]] = []

    @functools.wraps(train)
    def noted(data: Path, **given: Any) -> Any:
        asked.append(given)
        (given["out"] / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "train", noted)
    return asked


def begun(data: Path, out: Path, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        quick(data, out, **options)


def test_other_settings_and_other_data_are_refused_with_a_diff(
    data: Path, tmp_path: Path, no_training: list[dict[str, Any]]
) -> None:
    own = tmp_path / "own"
    shutil.copytree(data, own)
    begun(own, tmp_path / "cv")
    begun(own, tmp_path / "cv")
    with pytest.raises(RunError, match="folds was 3 and is 4"):
        quick(own, tmp_path / "cv", folds=4)
    with pytest.raises(RunError, match=r"lr was not given and is 0\.5.*seed was 0 and is 3"):
        quick(own, tmp_path / "cv", lr=0.5, seed=3)
    with pytest.raises(RunError, match="data was"):
        quick(data, tmp_path / "cv")
    picture = own / "checks" / "00.png"
    away = picture.rename(tmp_path / "00.png")
    with pytest.raises(DataError, match=r"1 missing: checks/00.png"):
        quick(own, tmp_path / "cv")
    picture.write_bytes(away.read_bytes() + b"more")
    with pytest.raises(DataError, match="other content"):
        quick(own, tmp_path / "cv")
    assert len(no_training) == 2


def test_a_plan_that_could_not_be_met_binds_nobody(data: Path, tmp_path: Path) -> None:
    """The first fold finds the budget too short, before it has learned anything: the next wish may be another."""
    fields = {"model.options.stem": "tiny", "threads": 1}
    with pytest.raises(UsageError, match="too short"):
        crossval(data, folds=3, out=tmp_path / "cv", set=fields, budget="0.003s", **OPTIONS)
    with stopped_in(1, pytest.MonkeyPatch()), pytest.raises(Interrupted):
        quick(data, tmp_path / "cv", folds=4)
    assert json.loads((tmp_path / "cv" / PLAN).read_text())["folds"] == 4


def test_a_second_process_is_refused_and_harms_nothing(
    data: Path, tmp_path: Path, no_training: list[dict[str, Any]]
) -> None:
    begun(data, tmp_path / "cv")
    before = content(tmp_path / "cv")
    with exclusive(tmp_path / "cv"), pytest.raises(RunLocked):
        quick(data, tmp_path / "cv")
    assert content(tmp_path / "cv") == before


def test_without_out_an_unfinished_one_of_the_same_settings_goes_on(
    data: Path, tmp_path: Path, no_training: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        begun(data, None)  # type: ignore[arg-type]
    begun(data, None, seed=1)  # type: ignore[arg-type]
    assert [given["out"].as_posix() for given in no_training] == [
        f"runs/patterns-crossval-{number}/fold-1" for number in (1, 1, 2)
    ]


@pytest.mark.parametrize(
    ("options", "fields", "message"),
    [
        ({}, {"data.test_fraction": 0.2}, "no effect"),
        ({"speed": 3}, {}, "no option speed"),
        ({"split": "x.csv"}, {}, "no option split"),
        ({"folds": 1}, {}, "2 or more"),
        ({"folds": 40}, {}, "fewer than 40 folds"),
        ({"model": "resnet19"}, {}, "resnet19"),
        ({}, {"optimizer.speed": 1}, "no option 'optimizer.speed'"),
        ({"budget": "soon"}, {}, "not a duration"),
    ],
)
def test_wrong_wishes_leave_nothing_behind(
    data: Path, tmp_path: Path, options: dict[str, Any], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        quick(data, tmp_path / "cv", fields, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        quick(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_resume_says_how_to_go_on(whole: CrossValidation) -> None:
    with pytest.raises(UsageError, match="same resight crossval command"):
        resume(whole.path)


def test_several_processes_are_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process"):
        quick(data, tmp_path / "cv")


def test_bad_pictures_are_listed_or_left_out_of_all_folds(
    data: Path, tmp_path: Path, no_training: list[dict[str, Any]]
) -> None:
    own = tmp_path / "own"
    shutil.copytree(data, own)
    (own / "checks" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"checks/bad.png"):
        quick(own, tmp_path / "cv")
    assert not (tmp_path / "cv").exists()
    begun(own, tmp_path / "cv", skip_bad=True)
    for number in (1, 2, 3):
        rows = split_csv.read(tmp_path / "cv" / "splits" / f"fold-{number}.csv")
        assert [row.source for row in rows.values() if row.split == split_csv.SKIPPED] == ["checks/bad.png"]


def test_what_the_first_fold_measured_holds_for_all(whole: CrossValidation, data: Path) -> None:
    """A budget is divided by the folds; its steps and the micro-batch are those of the first."""
    asked = Asked.of(data, 3, 7, {"save_steps": 5}, {"budget": "90s", "batch": "auto", "model": None})
    options, fields = asked.training(None)
    assert (options, fields) == ({"batch": "auto"}, {"save_steps": 5, "seed": 7, "budget_seconds": 30.0})
    first = Run(whole.path / "fold-1", whole.runs[0].card)
    options, fields = asked.training(first)
    assert (options, fields) == ({"batch": "auto"}, {"save_steps": 5, "seed": 7, "total_steps": 6})


def test_a_budget_that_ends_after_the_probe_ends_there_in_every_fold(data: Path, tmp_path: Path) -> None:
    """What only updates would use is not passed on: the training would refuse it."""
    wishes = {"lr": 0.1, "batch": "auto", "balance": "weights", "budget": "30s", "weights": "w.safetensors"}
    wishes["memory"] = "8G"
    asked = Asked.of(data, 3, 7, {"save_steps": 5, "augment.flip": "none"}, wishes)
    config = override(TrainConfig(), {"transfer.rung": "features", "budget_seconds": 10, "auto_batch": True})
    card = SimpleNamespace(transfer={})
    first = SimpleNamespace(path=tmp_path, read=lambda name: config.to_json(), card=card)
    card.transfer["folds"] = [{}]  # the folds of the training part chose, and there was time: the others choose anew
    assert asked.training(first)[1]["budget_seconds"] == 10  # type: ignore[arg-type]
    card.transfer.clear()
    options, fields = asked.training(first)  # type: ignore[arg-type]
    assert options == {"weights": "w.safetensors"}
    expected = {"seed": 7, "augment.flip": "none", "select": "balanced", "transfer.rung": "features"}
    assert fields == expected
    check_effects(override(TrainConfig(), fields), fields)


def test_a_budget_without_time_for_folds_has_none_in_every_fold(data: Path, tmp_path: Path) -> None:
    asked = Asked.of(data, 3, 7, {}, {"budget": "30s", "weights": "w.safetensors"})
    config = override(TrainConfig(), {"transfer.rung": "lpft", "transfer.folds": 0, "transfer.head": "probe"})
    config.total_steps = 5
    first = SimpleNamespace(path=tmp_path, read=lambda name: config.to_json(), card=SimpleNamespace(transfer={}))
    _, fields = asked.training(first)  # type: ignore[arg-type]
    assert fields == {"seed": 7, "total_steps": 5, "transfer.folds": 0, "transfer.head": "probe"}


def test_the_command_line_has_the_options_of_train(monkeypatch: pytest.MonkeyPatch) -> None:
    known = inspect.signature(making.train).parameters.keys() - {"split", "from_run", "keep_absent"}
    assert known == inspect.signature(folds.crossval).parameters.keys() - {"folds"}
    given: dict[str, Any] = {}

    def taken(data: Path, **options: Any) -> Any:
        given.update(options)
        raise UsageError("enough")

    monkeypatch.setattr(command, "crossval", taken)
    line = ["crossval", "DATA", "--channels", "4", "--freeze", "stage2", "--layer-decay", "0.5", "--batch", "auto"]
    CliRunner().invoke(app, [*line, "--lr", "0.1"])
    assert {name: given[name] for name in ("channels", "freeze", "layer_decay", "batch", "lr")} == {
        "channels": 4, "freeze": "stage2", "layer_decay": 0.5, "batch": "auto", "lr": 0.1,
    }  # fmt: skip
    assert set(given) - {"folds", "seed", "out", "set"} <= inspect.signature(train).parameters.keys()


def test_weights_that_know_the_pictures_are_refused(whole: CrossValidation, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"learned from .* of these 36 pictures, so each fold"):
        quick(data, tmp_path / "cv", weights=whole.runs[0].path)
    assert not (tmp_path / "cv").exists()


def test_weights_are_refused_where_other_pictures_changed_and_where_nothing_is_known(
    whole: CrossValidation, data: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(data, own)
    knowing = tiny.make_run(tmp_path / "knowing", data=load(own, val_fraction=0.2, test_fraction=0.2))
    (own / "checks" / "00.png").rename(own / "checks" / "renamed.png")
    with pytest.raises(UsageError, match=r"learned from \d+ of these 36 pictures, so each fold"):
        quick(own, tmp_path / "cv", weights=knowing.path)
    (knowing.path / SPLIT).write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"whether .* learned from these pictures is not known") as refused:
        quick(own, tmp_path / "cv", weights=knowing.path)
    assert "are known" not in str(refused.value)


def test_a_run_that_was_killed_before_it_had_begun_is_begun_anew(whole: CrossValidation, tmp_path: Path) -> None:
    fold = tmp_path / "fold-1"
    Run.create(fold, Run(fold, command_card(whole)).card)
    (fold / SPLIT).write_text("half of")
    command._clear_unborn(fold)
    assert [path.name for path in fold.iterdir()] == [".lock"]
    sealed = whole.runs[0].path
    command._clear_unborn(sealed)
    assert {CARD, CONFIG, SPLIT, ONNX, PREDICTIONS} <= {path.name for path in sealed.iterdir()}


def command_card(whole: CrossValidation) -> Any:
    from dataclasses import replace

    return replace(whole.runs[0].card, status="training", files={})
