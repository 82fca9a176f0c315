"""A policy's training: the one loop, in a folder of its own beside the artefacts, so that it can go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resight.adapting.gated import Gated
from resight.adapting.reinforce import PolicySettings, Reinforced
from resight.adapting.rewards import Costs, rewards
from resight.errors import UsageError
from resight.images import printable
from resight.models.from_run import network_of
from resight.recipes import TrainConfig, override
from resight.runs import ARTIFACTS, CONFIG, Run, RunCard
from resight.runs.plain_json import json_bytes, read_json
from resight.runs.storage import write_atomic
from resight.samples import SampleSet
from resight.training import prepare, reading
from resight.training.checkpoint import newest
from resight.training.distill import Teacher
from resight.training.fit import Training
from resight.training.loader import Pictures, eval_batches
from resight.training.objective import Normalize

POLICY, CURVES = "policy.json", "policy.png"
EPOCHS, BATCH, RATE = 10.0, 128, 2e-3
LEAST_BATCH, UPDATES = 16, 32
SLOWER = 0.05
"""The rate once the network learns, too, as a part of the one before; and again for the last third of that."""
TAUGHT = 0.5
"""What the network answered as a whole, as a part of what it learns from; the labels have the rest."""


@dataclass(eq=False)
class Learned:
    """The network and its policy after the last update. changed: whether the network learned, too. history: reward,
    share of the cost, accuracy and number of policies on validation after each epoch.
    """

    gated: Gated
    normalize: Normalize
    costs: Costs
    changed: bool
    history: list[dict[str, float]]
    folder: Path

    def save(self, draft: Path) -> None:
        """The curves as a picture. Raises StorageError."""
        from resight.adapting.figure import save_history

        save_history(draft / CURVES, self.history)

    def remove(self) -> None:
        """What going on needed."""
        shutil.rmtree(self.folder, ignore_errors=True)


def batch_for(pictures: int) -> int:
    """How many decisions an update is of: 128; of fewer than 4,096 training pictures so few that a pass is 32 updates,
    but 16 at least.
    """
    return min(BATCH, max(LEAST_BATCH, pictures // UPDATES), pictures)


def policy_config(run: Run, config: TrainConfig, *, epochs: float, batch: int, seed: int, joint: float) -> TrainConfig:
    """How a policy of this Run is trained, from the configuration that the Run was trained with: its data and
    augmentation, without what mixes pictures or labels; AdamW, a constant rate, a part of it (``SLOWER``) once the
    network learns, too, and the same part of that for the last third.
    """
    both = joint < 1  # at least at the end
    falls = [share for share in (joint, joint + (1 - joint) * 2 / 3) if share > 0] if both else []
    return override(
        config,
        {
            "model.weights": None,
            "model.whitening": False,
            "model.zero_gamma": False,
            "model.freeze": "none",
            "model.norms": "frozen",
            "transfer.rung": "none",
            "data.start_scale": 1.0,
            "data.train_size": run.card.geometry.size,
            "data.fix_share": 0.0,
            "augment.mixup": 0.0,
            "augment.cutmix": 0.0,
            "optimizer.name": "adamw",
            "optimizer.lr": RATE if joint > 0 else SLOWER * RATE,
            "optimizer.weight_decay": 0.0,
            "optimizer.layer_decay": 1.0,
            "optimizer.average_epochs": 0.0,
            "optimizer.clip": 1.0,
            "schedule.name": "step" if both else "constant",
            "schedule.warmup": 0.0,
            "schedule.milestones": falls,
            "schedule.gamma": SLOWER,
            "balance.weights": "none",
            "balance.sampling": "none",
            "balance.logit_adjustment": 0.0,
            "distill.teacher": None,
            "distill.weight": TAUGHT,
            "distill.temperature": 1.0,
            "loss": "cross_entropy",
            "label_smoothing": 0.0,
            "select": "accuracy",
            "epochs": epochs,
            "budget_seconds": 0.0,
            "total_steps": 0,
            "auto_batch": False,
            "batch": batch,
            "micro_batch": 0,
            "patience": 0,
            "compile": False,
            "device": "cpu",  # what is learned from is the time of this processor
            "precision": "fp32",
            "seed": seed,
        },
    )


def learn(
    run: Run,
    samples: SampleSet,
    config: TrainConfig,
    settings: PolicySettings,
    name: str,
    costs: Callable[[], Costs],
    report: Any,
    conditions: Mapping[str, Any],
) -> Learned:
    """Trains, or goes on exactly where the newest checkpoint of the same settings was made. costs: measured only where
    a training begins, under these ``conditions`` (backend, threads); one that goes on has them.

    Raises UsageError where a training of other settings was begun under this name; Interrupted after a signal, the
    state saved.
    """
    settings.check()
    train, val = reading.train_pictures(samples, config), reading.eval_pictures(samples, "val", config)
    config = config.model_copy(deep=True)
    prepare.resolve_steps(config, len(train))
    asked = {"config": config.model_dump(mode="json"), "settings": asdict(settings), "data": samples.fingerprint()}
    asked["conditions"] = dict(conditions)
    work, known = begun(run, name, config, asked, lambda: asdict(costs()))
    folder, table = work.path, Costs(float(known["fixed"]), tuple(known["blocks"]))
    torch.manual_seed(config.seed)
    gated = Gated(network_of(run))
    teacher = Teacher(run, config, run.classes) if settings.joint < 1 else None
    objective = Reinforced(gated, config, settings, table, teacher)
    watch = Watched(report, gated, objective.normalize, val, table, settings.penalty)
    training = Training(work, config, objective, train, val, watch)
    watch.path = folder / "history.json"
    if (checkpoint := newest(work, report.say)) is not None:
        training.restore(checkpoint)
        watch.history[:] = [entry for entry in _history(folder) if entry["step"] <= training.state.step]
        ended = [entry["step"] for entry in training.state.history]
        if ended[len(watch.history) :] == [training.state.step]:  # killed after the checkpoint, before it was measured
            watch.measure(training.state.step)
    training.fit()
    return Learned(gated, objective.normalize, table, settings.joint < 1, watch.history, folder)


def begun(
    run: Run, name: str, config: TrainConfig, asked: Mapping[str, Any], costs: Callable[[], dict[str, Any]]
) -> tuple[Run, dict[str, Any]]:
    """The folder of a training in progress, as a Run, and its costs: as they were measured when it began, or now, where
    it begins. asked: plain values that must be the same for it to go on.

    Raises UsageError where a training of other settings was begun under this name.
    """
    folder = training_folder(run, name)
    if (folder / POLICY).is_file():
        known = read_json((folder / POLICY).read_bytes())
        if {key: known.get(key) for key in asked} != dict(asked):
            raise UsageError(
                f"{printable(str(folder))} holds a training with other settings, or of other data",
                hint="ask as it was begun, or remove that folder to start over",
            )
        return Run.open(folder, sealed=False), known["costs"]
    measured_ = costs()
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left before its first file
    work = Run.create(folder, _card(run))
    write_atomic(folder / CONFIG, config.to_json())
    write_atomic(folder / POLICY, json_bytes(dict(asked) | {"costs": measured_}))
    return work, measured_


def training_folder(run: Run, name: str) -> Path:
    """Where what going on needs lies while a policy is trained."""
    return run.path / ARTIFACTS / f".training-{name}"


def _card(run: Run) -> RunCard:
    card = run.card
    return RunCard(card.architecture, card.classes, card.channels, card.geometry, card.mean, card.std)


def _history(folder: Path) -> list[dict[str, float]]:
    path = folder / "history.json"
    found: list[dict[str, float]] = read_json(path.read_bytes()) if path.is_file() else []
    return found


class Watched:
    """A reporter that also measures the greedy policy on validation after each epoch, and passes everything on."""

    def __init__(
        self, report: Any, gated: Gated, normalize: Normalize, val: Pictures, costs: Costs, penalty: float
    ) -> None:
        self._report, self._gated, self._normalize, self._val = report, gated, normalize, val
        self._costs, self._penalty = costs, penalty
        self.history: list[dict[str, float]] = []
        self.path: Path | None = None

    def start(self, done: int, total: int, batch: int) -> None:
        self._report.start(done, total, batch)

    def step(self, done: int, loss: float, rate: float) -> None:
        self._report.step(done, loss, rate)

    def epoch(self, entry: dict[str, Any], best: bool) -> None:
        self._report.epoch(entry, best)
        self.measure(entry["step"])

    def measure(self, step: int) -> None:
        """Of the weights as they are, after update ``step``."""
        found = {"step": step} | measured(self._gated, self._normalize, self._val, self._costs, self._penalty)
        self.history.append(found)
        if self.path is not None:
            write_atomic(self.path, json_bytes(self.history))
        self.say(
            f"greedy policy: reward {found['reward']:.3f}, {100 * found['share']:.1f} % of the time, accuracy "
            f"{100 * found['accuracy']:.2f} %, {found['policies']:.0f} policies"
        )

    def say(self, text: str) -> None:
        self._report.say(text)

    def close(self) -> None:
        self._report.close()


@torch.inference_mode()
def measured(gated: Gated, normalize: Normalize, pictures: Pictures, costs: Costs, penalty: float) -> dict[str, float]:
    """Of the greedy policy on all pictures: mean reward, share of the full cost, accuracy, number of policies."""
    gated.eval()
    right, kept = [], []
    for pixels in eval_batches(pictures, np.arange(len(pictures)), 256):
        stem = gated.stem(normalize(pixels))
        chosen = gated.policy(stem) >= 0
        right.append(gated.answered(stem, chosen).argmax(1).numpy())
        kept.append(chosen.numpy())
    correct, policies = np.concatenate(right) == pictures.labels, np.concatenate(kept)
    shares = costs.shares(policies)
    return {
        "reward": float(rewards(correct, shares, penalty).mean()),
        "share": float(shares.mean()),
        "accuracy": float(correct.mean()),
        "policies": float(len(np.unique(policies, axis=0))),
    }
