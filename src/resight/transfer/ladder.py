"""The rungs in order: features and probe, all layers, and what was kept in the end, with the reason.

The probe is computed once. It lies in the Run's ``checkpoints/``, its hash in ``run.json``; a training that was stopped
between two rungs goes on from it, and computes it again only where it is missing or damaged.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from resight.errors import UsageError
from resight.evaluation import accuracy, log_loss
from resight.models import ResNet
from resight.recipes import TrainConfig
from resight.runs import CHECKPOINTS, Run
from resight.runs.storage import write_atomic
from resight.samples import SampleSet
from resight.training import distributed
from resight.training.balance import corrects
from resight.training.estimate import steps_for
from resight.training.fit import Training, quality
from resight.training.loader import Pictures
from resight.transfer import probe, weighing
from resight.transfer.features import OWN, Seen, frozen
from resight.transfer.probe import Head

PROBE = "probe.safetensors"


def first_rung(
    run: Run,
    config: TrainConfig,
    samples: SampleSet,
    train: Pictures,
    val: Pictures,
    say: Callable[[str], None],
    seen: Seen | None = None,
) -> Head:
    """The probe of the frozen network: read from the Run, or computed by the first process and stored there.

    train, val: the parts as the loop takes them. seen: features of other trainings with the same pictures. Sets
    ``run.card.transfer["probe"]``: penalty, how it was chosen, accuracies, seconds and SHA-256.
    """
    if distributed.is_main() and _stored(run, say) is None:
        head, about = _computed(config, samples, train, val, say, seen)
        data = save({"weight": head.weight, "bias": head.bias})
        (run.path / CHECKPOINTS).mkdir(exist_ok=True)
        write_atomic(run.path / CHECKPOINTS / PROBE, data)
        run.update(transfer={"probe": {**about, "sha256": hashlib.sha256(data).hexdigest()}})
    distributed.wait()
    run.card = Run.open(run.path, sealed=False).card
    found = _stored(run, say)
    assert found is not None
    return found


def _stored(run: Run, say: Callable[[str], None]) -> Head | None:
    """The probe that the Run holds; None where there is none, or not the one whose hash the card has."""
    about, path = run.card.transfer.get("probe"), run.path / CHECKPOINTS / PROBE
    if not about:
        return None
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == about["sha256"]:
            tensors = load(data)
            return Head(tensors["weight"], tensors["bias"])
        reason = "it does not have its recorded hash"
    except (OSError, SafetensorError, KeyError) as error:
        reason = str(error)
    say(f"the probe in {path} cannot be used, and is computed again: {reason}")
    return None


def _computed(
    config: TrainConfig,
    samples: SampleSet,
    train_set: Pictures,
    val_set: Pictures,
    say: Callable[[str], None],
    seen: Seen | None = None,
) -> tuple[Head, dict[str, Any]]:
    begun = time.perf_counter()
    found = frozen(config, samples, train_set, val_set, say, seen)
    seconds = time.perf_counter() - begun
    train, val, labels, truth = found.train, found.val, found.labels, found.truth
    balanced = config.select == "balanced"
    head, choice = probe.fit((train, labels, found.groups), (val, truth), len(samples.classes), config.seed, balanced)
    name, note = "a logistic regression over the features", ""
    own = found.own
    if own is not None and _score(own, val[:, 0], truth, balanced) > _score(head, val[:, 0], truth, balanced):
        head, name = own, OWN
        note = "; the last layer of the weights answers validation better, and is kept"
    right, loss = _score(head, train.reshape(-1, train.shape[2]), np.repeat(labels, train.shape[1]))
    about = {
        "head": name,
        "pictures": len(labels),
        "mirrored": train.shape[1] == 2,
        **asdict(choice),
        "val_accuracy": _score(head, val[:, 0], truth)[0],
        "val_recall": _score(head, val[:, 0], truth, balanced=True)[0],
        "train_accuracy": right,
        "train_loss": -loss,
        "feature_seconds": seconds,
        "seconds": time.perf_counter() - begun,
    }
    mirrored = " and their mirror images" if train.shape[1] == 2 else ""
    since = f"in {seconds:.1f} s" if found.fresh else "as they were computed before"
    say(
        f"features: {len(labels):,} training pictures{mirrored} {since}; "
        f"penalty {choice.penalty:g}, {_percent(choice.recall if balanced else choice.accuracy, balanced)} by "
        f"{choice.on}; {_percent(about['val_recall' if balanced else 'val_accuracy'], balanced)} of validation{note}"
    )
    if corrects(config.balance):
        say("note: the probe counts every picture alike: balance corrects the fine-tuning only")
    return head, about


def _score(head: Head, features: probe.Floats, labels: probe.Labels, balanced: bool = False) -> tuple[float, float]:
    """Accuracy, or with ``balanced`` the classes' mean recall, and negative loss: the larger, the better."""
    logits = head.logits(features)
    share = probe.mean_recall(logits, labels) if balanced else accuracy(logits, labels).share
    return share, -log_loss(logits, labels)


@torch.no_grad()
def put_into(net: ResNet, head: Head) -> None:
    """Makes the probe the network's last layer."""
    net.fc.weight.copy_(torch.from_numpy(head.weight))
    net.fc.bias.copy_(torch.from_numpy(head.bias))


def starting_from(run: Run) -> dict[str, float]:
    """What the loop is told of its start: losses of the probe, and the seconds that it took."""
    about = run.card.transfer["probe"]
    return {name: float(about[name]) for name in ("train_loss", "train_accuracy", "seconds")}


def decide_length(run: Run, config: TrainConfig, build: Callable[..., Training], say: Callable[[str], None]) -> None:
    """Sets ``config.total_steps`` to what fits into the budget after the probe, at most the recipe's epochs; where not
    half of them do, ``transfer.head`` becomes ``probe``; where not one step does, ``transfer.rung`` ``features``.

    build: makes a training, which is used up here.
    """
    trial = build(lambda _: None)
    per_epoch, spent = trial.loader.steps_per_epoch, run.card.transfer["probe"]["seconds"]
    most = max(1, round(config.epochs * per_epoch))
    config.total_steps = most  # the schedule needs a number while the speed is measured
    begun = time.perf_counter()
    try:
        fit = steps_for(trial, config.budget_seconds - spent)
    except UsageError:
        fit = 0
    fit = distributed.smallest(fit)
    config.total_steps = min(most, fit)
    spent += time.perf_counter() - begun
    if not config.total_steps:
        config.transfer.rung = "features"
        say(
            f"budget: after {spent:.0f} of {config.budget_seconds:.0f} s nothing more fits: the probe is the classifier"
        )
        return
    config.epochs = config.total_steps / per_epoch
    if weighing.due(config, len(trial.loader.pictures), len(trial.val)) and fit < config.transfer.folds * most:
        config.transfer.folds = 0  # each fold costs (folds - 1) / folds of the whole
        say(f"budget: no time to compare the rungs: the {len(trial.val)} validation pictures choose")
    if 2 * config.total_steps < most:
        config.transfer.head = "probe"  # too short to learn a new last layer
    rest = "all that the recipe asks for" if config.total_steps == most else f"of {most}"
    say(
        f"budget: {config.total_steps} steps of fine-tuning ({config.epochs:.1f} epochs), {rest}, fit into "
        f"{config.budget_seconds:.0f} s after the features"
    )


Entry = dict[str, Any]


def conclusion(transfer: Mapping[str, Any], config: TrainConfig, history: Sequence[Entry]) -> dict[str, Any]:
    """The card's ``transfer`` once training is over: what was kept, ``features`` or ``fine-tuning``, and why."""
    start, tuned = history[0], history[1:]
    balanced = "val_recall" in start  # then it decides, as ``quality`` says

    def shown(entry: Entry) -> str:
        return _percent(quality(entry)[0], balanced)

    probed, limit = shown(start), config.budget_seconds
    folds = transfer.get("folds")
    compared = "; " + weighing.said(folds, balanced) if folds and config.transfer.folds else ""
    if not tuned and compared:
        return {**transfer, "kept": "features", "why": compared.removeprefix("; "), "epochs": 0}
    if not tuned:
        more = f"the budget of {limit:.0f} s left no time for more" if limit else "nothing more was asked for"
        return {**transfer, "kept": "features", "why": f"the probe has {probed} of validation, and {more}", "epochs": 0}
    rival, epochs = max(tuned, key=quality), tuned[-1]["epoch"]
    best = max((start, rival), key=quality)  # the first of equals, as the loop decides
    loss = " at a lower loss" if quality(rival)[0] == quality(start)[0] else ""
    if best is start:
        why = f"the probe has {probed} of validation{loss}, {epochs} epochs of fine-tuning at best {shown(rival)}"
        return {**transfer, "kept": "features", "why": why + compared, "epochs": epochs}
    why = f"epoch {rival['epoch']} of {epochs} has {shown(rival)} of validation{loss}, the probe {probed}"
    return {**transfer, "kept": "fine-tuning", "why": why + compared, "epochs": epochs}


def _percent(share: float, balanced: bool) -> str:
    return f"{100 * share:.1f} %{' mean recall' if balanced else ''}"
