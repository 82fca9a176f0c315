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
from resight.models import ResNet, read_weights
from resight.recipes import TrainConfig
from resight.runs import CHECKPOINTS, Run
from resight.runs.storage import write_atomic
from resight.samples import SampleSet
from resight.training import distributed, prepare
from resight.training.balance import corrects
from resight.training.estimate import steps_for
from resight.training.fit import Training, quality
from resight.training.loader import Pictures
from resight.transfer import probe
from resight.transfer.features import embedder, features_of, most_pictures
from resight.transfer.probe import Head

PROBE = "probe.safetensors"

Seen = dict[str, tuple[probe.Floats, probe.Floats]]
"""Features of the training and the validation pictures, float32 (N, V, D) and (M, 1, D), by what they depend on: for
trainings that come one after another in one process, as in a study."""


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
    source = read_weights(config.model.weights or "", config.model.name)
    net = prepare.build_net(config, len(samples.classes), source, lambda _: None)
    own = net.fc if source.classes == samples.classes else None
    mirror = config.augment.flip != "none"
    if config.augment.crop == "resized" or config.data.train_size != config.data.image_size:
        train_set = prepare.eval_pictures(samples, "train", config, say)  # what the loop takes is not what is answered
    chosen = _some(train_set.labels, most_pictures(net.fc.in_features, 1 + mirror), config.seed)
    known = {} if seen is None else seen
    name = _name_of(net, config, samples, chosen, mirror)
    if fresh := name not in known:
        everything = np.arange(len(val_set), dtype=np.int64)
        with embedder(net, config, len(chosen) * (1 + mirror) + len(everything)) as embed:
            of_train = features_of(embed, train_set.__getitem__, chosen, mirror=mirror)
            known[name] = of_train, features_of(embed, val_set.__getitem__, everything, mirror=False)
    train, val = known[name]
    seconds = time.perf_counter() - begun
    labels, truth = train_set.labels[chosen], val_set.labels
    groups = [train_set.samples[index].group for index in chosen]
    balanced = config.select == "balanced"
    head, choice = probe.fit((train, labels, groups), (val, truth), len(samples.classes), config.seed, balanced)
    name, note = "a logistic regression over the features", ""
    if own is not None:
        kept = Head(own.weight.detach().numpy(), own.bias.detach().numpy())
        if _score(kept, val[:, 0], truth, balanced) > _score(head, val[:, 0], truth, balanced):
            head, name = kept, "the last layer of the weights"
            note = "; the last layer of the weights answers validation better, and is kept"
    right, loss = _score(head, train.reshape(-1, train.shape[2]), np.repeat(labels, train.shape[1]))
    about = {
        "head": name,
        "pictures": len(chosen),
        "mirrored": mirror,
        **asdict(choice),
        "val_accuracy": _score(head, val[:, 0], truth)[0],
        "val_recall": _score(head, val[:, 0], truth, balanced=True)[0],
        "train_accuracy": right,
        "train_loss": -loss,
        "feature_seconds": seconds,
        "seconds": time.perf_counter() - begun,
    }
    mirrored = " and their mirror images" if mirror else ""
    since = f"in {seconds:.1f} s" if fresh else "as they were computed before"
    say(
        f"features: {len(chosen):,} training pictures{mirrored} {since}; "
        f"penalty {choice.penalty:g}, {_percent(choice.recall if balanced else choice.accuracy, balanced)} by "
        f"{choice.on}; {_percent(about['val_recall' if balanced else 'val_accuracy'], balanced)} of validation{note}"
    )
    if corrects(config.balance):
        say("note: the probe counts every picture alike: balance corrects the fine-tuning only")
    return head, about


def _name_of(net: ResNet, config: TrainConfig, samples: SampleSet, chosen: probe.Labels, mirror: bool) -> str:
    """Equal where features are: the same weights answer the same pictures, prepared alike, by the same arithmetic."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        if not name.startswith("fc."):  # the last layer answers, it makes no features
            digest.update(name.encode())
            digest.update(value.contiguous().numpy())
    data = config.data
    settings = (asdict(prepare.geometry_of(config)), data.channels, data.mean, data.std, mirror)
    digest.update(repr((settings, config.device, config.threads, samples.fingerprint())).encode())
    digest.update(chosen)
    return digest.hexdigest()


def _some(labels: probe.Labels, most: int, seed: int) -> probe.Labels:
    """Positions of at most ``most`` pictures, drawn by the seed, in order: of each class one for each fold, as far as
    it has them, and the rest as they come.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    rounds = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        rounds[mine] = np.minimum(np.arange(len(mine)), probe.FOLDS)
    found: probe.Labels = np.sort(order[np.argsort(rounds[order], kind="stable")][:most])
    return found


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
    config.total_steps = min(most, distributed.smallest(fit))
    spent += time.perf_counter() - begun
    if not config.total_steps:
        config.transfer.rung = "features"
        say(
            f"budget: after {spent:.0f} of {config.budget_seconds:.0f} s nothing more fits: the probe is the classifier"
        )
        return
    config.epochs = config.total_steps / per_epoch
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
    if not tuned:
        more = f"the budget of {limit:.0f} s left no time for more" if limit else "nothing more was asked for"
        return {**transfer, "kept": "features", "why": f"the probe has {probed} of validation, and {more}", "epochs": 0}
    rival, epochs = max(tuned, key=quality), tuned[-1]["epoch"]
    best = max((start, rival), key=quality)  # the first of equals, as the loop decides
    loss = " at a lower loss" if quality(rival)[0] == quality(start)[0] else ""
    if best is start:
        why = f"the probe has {probed} of validation{loss}, {epochs} epochs of fine-tuning at best {shown(rival)}"
        return {**transfer, "kept": "features", "why": why, "epochs": epochs}
    why = f"epoch {rival['epoch']} of {epochs} has {shown(rival)} of validation{loss}, the probe {probed}"
    return {**transfer, "kept": "fine-tuning", "why": why, "epochs": epochs}


def _percent(share: float, balanced: bool) -> str:
    return f"{100 * share:.1f} %{' mean recall' if balanced else ''}"
