"""``train`` and ``resume`` from a folder to a Run: what they make, what they refuse, what they survive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.tiny import CLASSES, digest, last, write_patterns

from resight.commands import resume as resuming
from resight.commands import train as command
from resight.commands.eval import evaluate_run
from resight.commands.own_data import load_own
from resight.commands.resume import resume
from resight.commands.start import free_name, start
from resight.commands.train import seconds_of, train
from resight.errors import DataError, ImageError, OutOfMemory, RunError, RunLocked, UsageError
from resight.exporting import seal as sealing
from resight.inference import Predictor, read_reference, unit
from resight.runs import CHECKPOINTS, CONFIG, HISTORY, ONNX, PREDICTIONS, REFERENCE, REPORT, SPLIT, WEIGHTS, Run
from resight.runs.storage import exclusive
from resight.samples import split_csv
from resight.training.objective import Supervised

OPTIONS: dict[str, Any] = {
    "model": "resnet20",
    "batch": 8,
    "workers": 0,
    "device": "cpu",
}
SETTINGS: dict[str, Any] = {"model.options.stem": "tiny", "total_steps": 4, "threads": 1}


def quick_train(data: Path, out: Path, settings: dict[str, Any] | None = None, **options: Any) -> Run:
    return train(data, out=out, set=SETTINGS | (settings or {}), **OPTIONS | options)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_patterns(tmp_path / "data")


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing without calibration, graph and metrics, which take seconds and are tested elsewhere."""

    def seal(run: Run, net: Any, samples: Any, logits: Any, say: Any) -> None:
        for name in (WEIGHTS, ONNX):
            (run.path / name).write_bytes(b"not tested here")
        run.seal()

    monkeypatch.setattr(sealing, "seal", seal)
    monkeypatch.setattr(resuming, "_summary", lambda run, say: None)


# ── the whole way, once ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole training in a directory with a difficult name, its pictures in another."""
    root = tmp_path_factory.mktemp("whole")
    return quick_train(write_patterns(root / "my dätä"), root / "my rün", {"total_steps": 60})


def test_a_sealed_run_has_everything(sealed: Run) -> None:
    card = sealed.card
    assert card.status == "sealed"
    assert card.classes == CLASSES
    assert card.calibrated
    assert set(card.files) == {CONFIG, SPLIT, WEIGHTS, ONNX, REFERENCE, PREDICTIONS, HISTORY, REPORT}
    assert card.data["counts"] == {"train": 48, "val": 6, "test": 6}
    assert card.parity["max_abs"] <= 1e-4
    history = [json.loads(line) for line in sealed.file(HISTORY).read_text().splitlines()]
    assert [entry["step"] for entry in history] == [6, 12, 18, 24, 30, 36, 42, 48, 54, 60]
    with np.load(sealed.file(PREDICTIONS)) as arrays:
        assert arrays["val_logits"].shape == arrays["test_logits"].shape == (6, 3)
        accuracy = (arrays["test_logits"].argmax(1) == arrays["test_labels"]).mean()
    assert sealed.metrics.top1 == pytest.approx(accuracy)
    assert sealed.metrics.top1 > 0.8
    assert Run.open(sealed.path).card == card


def test_the_reference_is_of_the_training_pictures_and_six_of_validation_are_too_few(sealed: Run) -> None:
    """Each picture of the reference is found again at its place in the data, with its label."""
    assert sealed.card.unknown == {}
    reference, samples = read_reference(sealed), load_own(sealed)
    train = [i for i, sample in enumerate(samples.samples) if sample.split == "train"]
    assert reference.indices.tolist() == train
    assert reference.sources == tuple(samples.samples[i].source for i in train)
    assert reference.labels.tolist() == [samples.samples[i].label for i in train]
    found = unit(Predictor(sealed, threads=1).embeddings(samples, train))
    np.testing.assert_allclose(reference.bank.astype(float), found, atol=1e-3)


def test_sealing_sets_a_threshold_that_keeps_95_of_100_of_validation(tmp_path: Path) -> None:
    run = quick_train(
        write_patterns(tmp_path / "data", each=60), tmp_path / "run", {"total_steps": 8, "data.val_fraction": 0.3}
    )
    unknown = run.card.unknown
    assert (unknown["score"], unknown["k"], unknown["validation"]) == ("knn-whitened", 5, 54)
    samples = load_own(run)
    val = [i for i, sample in enumerate(samples.samples) if sample.split == "val"]
    unlike = Predictor(run, threads=1).answers(samples, val).unlike
    assert unlike is not None
    assert int((unlike > unknown["threshold"] + 1e-5).sum()) <= 55 - 53  # 53 = ⌈0.95 · 55⌉ are kept
    assert unknown["pictures"] == run.card.data["counts"]["train"]
    share = evaluate_run(run).unknown
    assert share is not None
    said = f"It calls {100 * share.value:.1f}\u00a0% of them unknown"
    assert said in (run.path / "report.html").read_text()  # of the test part, which chose no threshold


def test_the_sealed_weights_are_those_of_the_best_checkpoint(sealed: Run) -> None:
    from safetensors.torch import load_file

    from resight.training.checkpoint import load_checkpoint

    name = last(sealed.path).state.best_name
    assert name is not None
    best = load_checkpoint(sealed.path / CHECKPOINTS / name)
    weights = load_file(sealed.file(WEIGHTS))
    assert weights.keys() == best.average.keys()
    assert all(torch.equal(weights[key], best.average[key]) for key in weights)


def test_validation_logits_of_training_are_those_of_the_run(sealed: Run) -> None:
    """One answer everywhere: the history's validation accuracy is what the sealed graph gives."""
    history = [json.loads(line) for line in sealed.file(HISTORY).read_text().splitlines()]
    best = max(history, key=lambda entry: (entry["val_accuracy"], -entry["val_loss"]))
    metrics = sealed.card.metrics["val"]["metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx(best["val_accuracy"])


def test_a_finished_run_is_left_as_it_is(sealed: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in sealed.path.rglob("*")}
    assert resume(sealed.path).card == sealed.card
    assert "nothing to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in sealed.path.rglob("*")} == before


def test_sealing_that_was_cut_short_is_done_again(sealed: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(sealed.path, copy)
    plain = json.loads((copy / "run.json").read_text())
    plain |= {"status": "trained", "files": {}, "metrics": {}, "parity": {}}
    (copy / "run.json").write_text(json.dumps(plain))
    (copy / ONNX).unlink()
    (copy / (ONNX + ".tmp")).write_bytes(b"half")
    again = resume(copy)
    assert again.card.files[WEIGHTS] == sealed.card.files[WEIGHTS]
    assert again.card.metrics == sealed.card.metrics
    assert not list(copy.glob("*.tmp"))


# ── data ───────────────────────────────────────────────────────────────────────────────────────────────────────


def spoil(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:60])
    return path.name


def test_bad_files_are_listed_before_anything_is_made(data: Path, tmp_path: Path) -> None:
    (data / "rows" / "03.png").write_bytes(b"")
    spoil(data / "checks" / "11.png")
    (data / "columns" / "07.png").write_bytes(b"<html>not a picture</html>")
    with pytest.raises(DataError) as refused:
        quick_train(data, tmp_path / "run")
    assert refused.value.exit_code == 2
    for name in ("rows/03.png", "checks/11.png", "columns/07.png", "3 of 60", "--skip-bad"):
        assert name in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_export")
def test_skipped_files_are_counted_recorded_and_stay_out(data: Path, tmp_path: Path) -> None:
    spoil(data / "rows" / "03.png")
    run = quick_train(data, tmp_path / "run", skip_bad=True)
    assert [source for source, _ in run.card.data["skipped"]] == ["rows/03.png"]
    assert sum(run.card.data["counts"].values()) == 59
    saved = split_csv.read(run.file(SPLIT))
    assert saved["rows/03.png", None].split == "skipped"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanishes_while_training_is_an_error_at_once(
    workers: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = command.start

    def create_then_lose(*args: Any) -> Run:
        run = create(*args)
        victim = next(row for row in split_csv.read(run.file(SPLIT)).values() if row.split == "train")
        path = data / victim.source
        size = path.stat().st_size
        path.write_bytes(b"x" * size)  # the same size: only decoding finds it
        return run

    monkeypatch.setattr(command, "start", create_then_lose)
    with pytest.raises(ImageError, match=r"\.png"):
        quick_train(data, tmp_path / "run", {"total_steps": 6}, workers=workers)


@pytest.fixture
def started(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A Run that was made and not trained yet."""
    with monkeypatch.context() as patch:
        patch.setattr(command, "finish", lambda path, report: Run.open(path, sealed=False))
        return quick_train(data, tmp_path / "run")


def test_a_class_that_appeared_is_named(started: Run, data: Path) -> None:
    shutil.copytree(data / "rows", data / "waves")
    with pytest.raises(DataError, match="waves"):
        resume(started.path)


def test_a_renamed_class_is_named(started: Run, data: Path) -> None:
    (data / "rows").rename(data / "lines")
    with pytest.raises(DataError, match="rows/"):
        resume(started.path)


def test_missing_pictures_are_named(started: Run, data: Path) -> None:
    (data / "rows" / "03.png").unlink()
    with pytest.raises(DataError, match=r"missing: rows/03\.png"):
        resume(started.path)


def test_an_exchanged_picture_is_refused(started: Run, data: Path) -> None:
    Image.new("RGB", (28, 28)).save(data / "rows" / "03.png")
    with pytest.raises(DataError, match="other content"):
        resume(started.path)


CHANGES: dict[str, tuple[str, Any, str]] = {
    "image size": ("data.image_size", 32, "size=28.*size=32"),
    "architecture": ("model.name", "resnet32", "resnet20.*resnet32"),
    "model options": ("model.options", {"stem": "cifar"}, "tiny.*cifar"),
    "seed": ("seed", 5, "seed was 0 and is 5"),
    "mean": ("data.mean", [0.1, 0.2, 0.3], "mean was"),
    "channels": ("data.channels", 1, "channels was 3 and is 1"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_another_configuration_is_refused_with_the_difference(kind: str, started: Run) -> None:
    field, value, pattern = CHANGES[kind]
    plain = json.loads((started.path / CONFIG).read_text())
    *sections, name = field.split(".")
    target = plain[sections[0]] if sections else plain
    target[name] = value
    (started.path / CONFIG).write_text(json.dumps(plain))
    with pytest.raises(RunError, match=pattern):
        resume(started.path)


# ── the place ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_trainings_in_one_directory_are_refused(started: Run, data: Path) -> None:
    with exclusive(started.path), pytest.raises(RunLocked, match="another process"):
        resume(started.path)
    with pytest.raises(UsageError, match="already holds a Run"):
        quick_train(data, started.path)


def test_checkpoints_of_another_training_are_not_taken_for_ones_own(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / CHECKPOINTS).mkdir(parents=True)
    with pytest.raises(UsageError, match="is not empty"):
        quick_train(data, tmp_path / "run")


def test_names_of_runs_are_free_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [free_name(tmp_path / "my data.csv", "resnet18") for _ in range(3)]
    assert [name.as_posix() for name in names] == [f"runs/my-data-resnet18-{n}" for n in (1, 2, 3)]
    assert all(name.is_dir() for name in names)  # taken, so that no other process takes them as well
    assert free_name("/", "resnet18").as_posix() == "runs/data-resnet18-1"


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a Run"):
        resume(tmp_path)


# ── memory ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """``memory[:] = [limit, error]``: a forward pass of more than ``limit`` training pictures raises it."""
    limit: list[Any] = [10**9, torch.OutOfMemoryError("CUDA out of memory")]
    forward = Supervised.forward

    def limited(self: Supervised, batch: Any) -> Any:
        if len(batch.labels) > limit[0]:
            raise limit[1]
        return forward(self, batch)

    monkeypatch.setattr(Supervised, "forward", limited)
    return limit


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: 12 bytes"),
    MemoryError(),
]


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_batch(
    error: Exception, data: Path, tmp_path: Path, memory: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    quick_train(data, tmp_path / "small", {"micro_batch": 2})
    memory[:] = [3, error]
    run = quick_train(data, tmp_path / "halved")
    said = capsys.readouterr().err
    assert "4 pictures at a time" in said
    assert "2 pictures at a time" in said
    assert "BatchNorm" in said
    assert last(run.path).state.micro_batch == 2
    assert digest(run.path) == digest(tmp_path / "small")  # the same bits as if it had been asked for
    assert json.loads(run.file(CONFIG).read_text())["batch"] == 8


def test_out_of_memory_with_one_picture_is_an_error(data: Path, tmp_path: Path, memory: list[Any]) -> None:
    memory[:] = [0, torch.OutOfMemoryError("CUDA out of memory")]
    with pytest.raises(OutOfMemory, match="one picture at a time") as stopped:
        quick_train(data, tmp_path / "run")
    assert "--image-size" in str(stopped.value)


def test_other_errors_are_not_taken_for_out_of_memory(data: Path, tmp_path: Path, memory: list[Any]) -> None:
    memory[:] = [0, RuntimeError("something else")]
    with pytest.raises(RuntimeError, match="something else"):
        quick_train(data, tmp_path / "run")


# ── options ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("45", 45), (30, 30), (0.5, 0.5), (" 2 m ", 120)],
)
def test_budgets(text: str | float, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "0", "-5m", "1d", "20 minutes", "1e3s", "nan", "inf", "١٠m", -3])
def test_what_is_no_budget(text: str | float) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        seconds_of(text)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "both lengths": ({"epochs": 2, "budget": "1m"}, "exclude each other"),
    "no number": ({"batch": "many"}, "whole number"),
    "no recipe": ({"recipe": "nice"}, "recipes: quick"),
    "no model": ({"model": "resnet19"}, "resnet"),
    "negative epochs": ({"epochs": -1}, "epochs"),
    "negative rate": ({"lr": -0.1}, "optimizer.lr"),
    "infinite rate": ({"lr": float("inf")}, "optimizer.lr"),
    "large seed": ({"seed": 2**32}, "seed"),
    "no device": ({"device": "tpu"}, "device"),
    "fp16 without a GPU": ({"precision": "fp16"}, "CUDA"),
    "small pictures": ({"image_size": 20}, "28 px"),
    "a path": ({"set": {"data.path": "elsewhere"}}, "data.path"),
    "two lengths": ({"set": {"total_steps": 5, "epochs": 3}}, "total_steps"),
    "no effect": ({"set": {"optimizer.beta2": 0.9}}, "no effect while optimizer.name is muon"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind: str, data: Path, tmp_path: Path) -> None:
    options, pattern = REFUSED[kind]
    with pytest.raises(UsageError, match=pattern):
        train(data, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_unknown_options_are_found_before_the_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        train(tmp_path / "nowhere", set={"optimizer.speed": 3})
    assert "optimizer.speed" in str(refused.value)
    assert "weight_decay" in str(refused.value)


def test_settings_that_fit_only_their_recipe_are_taken(started: Run, data: Path, tmp_path: Path) -> None:
    run = start(
        data, {"schedule.milestones": [0.3], "optimizer.momentum": 0}, "he2015-cifar", tmp_path / "other", print
    )
    config = json.loads(run.file(CONFIG).read_text())
    assert config["schedule"]["milestones"] == [0.3]


@pytest.mark.usefixtures("no_export")
def test_a_recipe_given_as_a_setting_is_the_recipe(data: Path, tmp_path: Path) -> None:
    run = quick_train(data, tmp_path / "run", {"recipe": "he2015-cifar"})
    config = json.loads(run.file(CONFIG).read_text())
    assert (run.card.recipe, config["optimizer"]["decay_norms"]) == ("he2015-cifar", True)
    assert config["total_steps"] == 4
