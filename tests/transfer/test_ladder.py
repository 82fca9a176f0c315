"""The ladder from a folder to a Run: what it keeps and says, where a budget stops it, going on between two rungs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.training.tiny import CLASSES, digest, last, tiny_config, write_patterns
from tests.transfer.climbing import BY_VALIDATION, OPTIONS, SETTINGS, SHORT, climb, history

from resight.commands import resume as resuming
from resight.commands.resume import resume
from resight.commands.train import train
from resight.errors import Interrupted, UsageError
from resight.recipes import TrainConfig, recipe
from resight.recipes.recipes import PLENTY, Facts
from resight.runs import CHECKPOINTS, CONFIG, WEIGHTS, Run
from resight.training import fit, prepare, reading
from resight.training.checkpoint import load_checkpoint
from resight.training.fit import Training
from resight.transfer import features, ladder, probe


class Killed(BaseException):
    """Stands for a process that is gone."""


@pytest.fixture(scope="module")
def whole(data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return climb(data, weights, tmp_path_factory.mktemp("whole") / "run")


# ── what it keeps ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_probe_is_the_start_and_a_candidate(whole: Run) -> None:
    config = TrainConfig.from_json(whole.file(CONFIG).read_bytes(), CONFIG)
    assert (config.recipe, config.transfer.rung, config.total_steps) == ("transfer", "lpft", 4)
    entries, about = history(whole), whole.card.transfer
    assert [(entry["epoch"], entry["step"]) for entry in entries] == [(0, 0), (1, 3), (2, 4)]
    assert entries[0]["val_accuracy"] == pytest.approx(about["probe"]["val_accuracy"])
    assert entries[0]["train_accuracy"] == about["probe"]["train_accuracy"]
    assert entries[0]["seconds"] == about["probe"]["seconds"] < entries[1]["seconds"]
    assert about["kept"] in ("features", "fine-tuning")
    assert about["why"]


def test_a_start_that_stays_best_is_what_is_sealed(data: Path, weights: Path, tmp_path: Path) -> None:
    """The rate destroys the network: the weights of the Run are those of the file, with the probe as the last layer."""
    run = climb(
        data,
        weights,
        tmp_path / "run",
        {**SHORT, "optimizer.lr": 3.0, "optimizer.layer_decay": 1, "model.norms": "train"},
    )
    assert run.card.transfer["kept"] == "features"
    assert "fine-tuning at best" in run.card.transfer["why"]
    sealed, given = load_file(run.file(WEIGHTS)), load_file(weights)
    head = load_file(run.path / CHECKPOINTS / ladder.PROBE)
    assert torch.equal(sealed["fc.weight"], head["weight"])
    assert torch.equal(sealed["fc.bias"], head["bias"])
    assert all(torch.equal(sealed[name], given[name]) for name in given if not name.startswith("fc."))


@pytest.mark.parametrize("head", ["probe", "new"])
def test_what_the_last_layer_starts_as(head: str, data: Path, weights: Path, tmp_path: Path) -> None:
    changes = {"total_steps": 1, "optimizer.lr": 1e-9, "transfer.head": head}
    run = climb(data, weights, tmp_path / "run", SHORT | changes)
    after = last(run.path).weights["fc.weight"]
    made = load_file(run.path / CHECKPOINTS / ladder.PROBE)["weight"]
    assert torch.allclose(after, made, atol=1e-6) == (head == "probe")
    assert run.card.transfer["probe"]["val_accuracy"] == history(run)[0]["val_accuracy"]  # it was a candidate


def test_features_alone_make_a_run_without_an_update(data: Path, weights: Path, tmp_path: Path) -> None:
    run = climb(data, weights, tmp_path / "run", SETTINGS, recipe="features")
    assert [entry["epoch"] for entry in history(run)] == [0]
    assert last(run.path).optimizer == {}
    assert run.card.transfer["kept"] == "features"
    assert "nothing more was asked for" in run.card.transfer["why"]
    assert history(run)[0]["val_accuracy"] > 0.5  # of three classes, with features that nobody trained


def test_a_budget_counts_the_features_and_may_leave_nothing_else(data: Path, weights: Path, tmp_path: Path) -> None:
    run = climb(data, weights, tmp_path / "run", BY_VALIDATION, budget="0.001s")
    config = TrainConfig.from_json(run.file(CONFIG).read_bytes(), CONFIG)
    assert (config.transfer.rung, config.total_steps) == ("features", 0)
    assert "the budget of 0 s left no time" in run.card.transfer["why"]


def test_a_budget_is_a_limit_and_no_aim(data: Path, weights: Path, tmp_path: Path) -> None:
    run = climb(data, weights, tmp_path / "run", BY_VALIDATION, budget="30m")
    config = TrainConfig.from_json(run.file(CONFIG).read_bytes(), CONFIG)
    assert config.total_steps == round(recipe("transfer", Facts(48, 3, 28)).epochs * 3)
    assert config.budget_seconds == 1800


def test_mirror_images_are_features_only_where_they_mean_the_same(whole: Run, data: Path, weights: Path) -> None:
    assert whole.card.transfer["probe"]["mirrored"]
    samples = resuming._samples(whole, resuming._config(whole))
    config = resuming._config(whole)
    config.augment.flip = "none"
    parts = [reading.eval_pictures(samples, part, config) for part in ("train", "val")]
    _, about = ladder._computed(config, samples, parts[0], parts[1], lambda _: None)
    assert not about["mirrored"]


def test_many_pictures_are_drawn_from() -> None:
    """Of every class some, the rest as they come: the large class stays the large one."""
    labels = np.array([0] * 900 + [1] * 91 + [2] * 7 + [3] * 2)
    some = features.some(labels, 100, seed=1)
    assert len(set(some.tolist())) == 100
    assert sorted(some) == some.tolist()
    counts = np.bincount(labels[some])
    assert counts[3] == 2
    assert counts[1:3].min() >= probe.FOLDS
    assert counts[0] > 60
    assert features.some(labels, 100, seed=2).tolist() != some.tolist()
    assert features.some(labels[:50], 100, seed=1).tolist() == list(range(50))
    assert np.bincount(labels[features.some(labels, 4, seed=1)]).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("trained", [True, False])
def test_a_head_of_the_same_classes_is_kept_where_it_answers_better(trained: bool, data: Path, tmp_path: Path) -> None:
    """A file that names the classes and whose last layer is perfect on them; and one whose last layer is nothing."""
    config = tiny_config(data, {"model.weights": str(tmp_path / "w.safetensors"), "augment.flip": "random"})
    samples = resuming.data_sets.load(data, seed=0, val_fraction=0.3, test_fraction=0.1)
    net = prepare.build_net(tiny_config(data), 3, None, lambda _: None)
    parts = [reading.eval_pictures(samples, part, config) for part in ("train", "val")]
    with features.embedder(net, config, 1) as embed:
        rows = features.features_of(embed, parts[1].__getitem__, np.arange(len(parts[1])), mirror=False)
    if trained:  # fitted on the validation pictures themselves: nothing else can be better there
        *_, (_, head) = ladder.probe.path(rows, parts[1].labels, 3)
        ladder.put_into(net, head)
    metadata = {"resight": json.dumps({"architecture": "resnet20", "options": {"stem": "tiny"}, "classes": CLASSES})}
    save_file(net.state_dict(), tmp_path / "w.safetensors", metadata=metadata)
    found, about = ladder._computed(config, samples, parts[0], parts[1], lambda _: None)
    assert ("last layer of the weights" in about["head"]) == trained
    assert np.array_equal(found.weight, net.fc.weight.detach().numpy()) == trained


@pytest.mark.parametrize("select", ["accuracy", "balanced"])
def test_what_chooses_the_epoch_chooses_between_the_heads(
    select: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights' own head answers the large class always, the probe a small one: more are right, no more classes."""
    data = write_patterns(tmp_path / "data", (40, 10, 10))
    wishes = {"model.weights": str(tmp_path / "w.safetensors"), "select": select, "balance.weights": "sqrt"}
    config = tiny_config(data, wishes)
    samples = resuming.data_sets.load(data, seed=0, val_fraction=0.3, test_fraction=0.1)
    net = prepare.build_net(tiny_config(data), 3, None, lambda _: None)
    width = net.fc.in_features
    own, other = (ladder.Head(np.zeros((3, width), np.float32), 20 * np.eye(3, dtype=np.float32)[k]) for k in (0, 1))
    other = ladder.Head(other.weight, other.bias / 20)
    ladder.put_into(net, own)
    metadata = {"resight": json.dumps({"architecture": "resnet20", "options": {"stem": "tiny"}, "classes": CLASSES})}
    save_file(net.state_dict(), tmp_path / "w.safetensors", metadata=metadata)
    choice = probe.Choice(1.0, "nothing", 0.5, 1.0, 0.25, ())
    monkeypatch.setattr(probe, "fit", lambda *_: (other, choice))
    said: list[str] = []
    parts = [reading.eval_pictures(samples, part, config) for part in ("train", "val")]
    found, about = ladder._computed(config, samples, parts[0], parts[1], said.append)
    assert np.array_equal(found.bias, (own if select == "accuracy" else other).bias)
    assert about["val_recall"] == pytest.approx(1 / 3)
    assert ("25.0 % mean recall by nothing; 33.3 % mean recall of validation" in said[0]) == (select == "balanced")
    assert "the probe counts every picture alike" in said[1]


# ── going on ───────────────────────────────────────────────────────────────────────────────────────────────────


def killed_before(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def prepare_it(patch: pytest.MonkeyPatch) -> None:
        owner = {"fit": Training, "put_into": ladder, "first_rung": ladder, "end_epoch": Training}[name]

        def gone(*args: Any, **kwargs: Any) -> Any:
            raise Killed

        patch.setattr(owner, name, gone)

    return prepare_it


@pytest.mark.parametrize("moment", ["first_rung", "put_into", "fit", "end_epoch"])
def test_a_ladder_that_was_killed_goes_on_to_the_same_bits(
    moment: str, data: Path, weights: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the features, between the rungs, and in the validation of the start."""
    with monkeypatch.context() as patch:
        killed_before(moment)(patch)
        with pytest.raises(Killed):
            climb(data, weights, tmp_path / "run")
    if moment != "first_rung":  # what was computed is not computed again
        monkeypatch.setattr(ladder, "_computed", None)
    run = resume(tmp_path / "run")
    assert digest(run.path) == digest(whole.path)
    kept = ("kept", "why", "epochs")
    assert [run.card.transfer[name] for name in kept] == [whole.card.transfer[name] for name in kept]


def test_a_signal_in_the_validation_of_the_start_loses_nothing(
    data: Path, weights: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = fit.validate

    def interrupted(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "validate", interrupted)
        with pytest.raises(Interrupted):
            climb(data, weights, tmp_path / "run")
    assert last(tmp_path / "run").state.history == []
    assert digest(resume(tmp_path / "run").path) == digest(whole.path)


def test_a_damaged_probe_is_said_and_computed_again(
    data: Path, weights: Path, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with monkeypatch.context() as patch:
        killed_before("put_into")(patch)
        with pytest.raises(Killed):
            climb(data, weights, tmp_path / "run")
    stored = tmp_path / "run" / CHECKPOINTS / ladder.PROBE
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    resume(tmp_path / "run")
    assert "computed again: it does not have its recorded hash" in capsys.readouterr().err
    assert digest(tmp_path / "run") == digest(whole.path)


def test_the_best_is_chosen_among_the_start_and_all_epochs(whole: Run) -> None:
    state = last(whole.path).state
    best = max(state.history, key=lambda entry: (entry["val_accuracy"], -entry["val_loss"]))
    assert state.best_name is not None
    assert load_checkpoint(whole.path / CHECKPOINTS / state.best_name).state.step == best["step"]
    assert (state.epochs, state.name) == (2, "step-00000004-e0002")


# ── what it says ───────────────────────────────────────────────────────────────────────────────────────────────


def entry(epoch: int, accuracy: float, loss: float) -> dict[str, Any]:
    return {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss}


SAID: dict[str, tuple[list[dict[str, Any]], float, str, str]] = {
    "better": ([entry(0, 0.5, 1), entry(1, 0.6, 1), entry(2, 0.55, 1)], 0, "fine-tuning", "epoch 1 of 2 has 60.0 %"),
    "equal": ([entry(0, 0.5, 1), entry(1, 0.5, 0.9)], 0, "fine-tuning", "50.0 % of validation at a lower loss"),
    "worse": ([entry(0, 0.5, 1), entry(1, 0.4, 0.9)], 0, "features", "1 epochs of fine-tuning at best 40.0 %"),
    "the same": ([entry(0, 0.5, 1), entry(1, 0.5, 1)], 0, "features", "the probe has 50.0 %"),
    "mean recall": (
        [entry(0, 0.9, 1) | {"val_recall": 0.5}, entry(1, 0.8, 0.9) | {"val_recall": 0.5}],
        0,
        "fine-tuning",
        "epoch 1 of 1 has 50.0 % mean recall of validation at a lower loss, the probe 50.0 % mean recall",
    ),
    "no time": ([entry(0, 0.5, 1)], 60, "features", "the budget of 60 s left no time"),
}


@pytest.mark.parametrize("case", SAID)
def test_the_conclusion_says_what_was_kept_and_why(case: str) -> None:
    entries, budget, kept, words = SAID[case]
    found = ladder.conclusion({"probe": {}}, TrainConfig(budget_seconds=budget), entries)
    assert found["kept"] == kept
    assert words in found["why"]
    assert found["epochs"] == len(entries) - 1


# ── what is refused, and the recipe ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "transfer"}, "the recipe transfer starts from weights"),
        ({"recipe": "features"}, "the recipe features starts from weights"),
        ({"freeze": "stage1"}, "model.freeze keeps weights"),
    ],
)
def test_what_needs_weights_says_so_before_anything_is_made(
    options: dict[str, Any], words: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        train(data, out=tmp_path / "run", **OPTIONS | options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change", [{"lr": 0.1}, {"epochs": 3}, {"budget": "5m"}, {"batch": 8}, {"freeze": "stem"}, {"layer_decay": 0.5}]
)
def test_features_alone_refuse_what_only_updates_would_use(
    change: dict[str, Any], data: Path, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"has no effect with transfer\.rung=features"):
        climb(data, weights, tmp_path / "run", SETTINGS, recipe="features", **change)


def test_a_stage_that_the_network_lacks_is_refused(data: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no stage4"):
        climb(data, weights, tmp_path / "run", freeze="stage4")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [20, 50, 200, 500, 900, 5000])
def test_few_pictures_get_smaller_batches_at_lower_rates_and_enough_updates(count: int) -> None:
    config = recipe("transfer", Facts(count, 10, 300))
    assert config.optimizer.lr / config.batch == pytest.approx(0.01 / 32)
    assert config.epochs * count / config.batch >= min(600, 60 * count / config.batch) - count / config.batch
    assert (config.model.norms, config.data.start_scale) == ("train", 1.0)


def test_plenty_of_pictures_get_stronger_augmentation() -> None:
    few, many = (recipe("transfer", Facts(count, 10, 300)) for count in (PLENTY - 1, PLENTY))
    assert many.epochs == few.epochs
    assert (few.augment.mixup, few.augment.policy) == (0, "none")
    assert many.augment.mixup > 0
    assert many.augment.policy == "trivial"
