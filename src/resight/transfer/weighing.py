"""Which rung, where too few pictures validate to say: both answer held-out parts of the training pictures in turn.

An accuracy over ten pictures says nothing about a difference of ten points. So each fold of the training part is left
out once; a probe and a fine-tuning, both of the other folds, answer it. Fine-tuning is begun with all training pictures
only where it has more of the held-out ones right, by more than chance; else the simpler rung stays (docs/transfer.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from resight.errors import DataError, Interrupted, OutOfMemory
from resight.evaluation import mcnemar
from resight.models import read_weights
from resight.recipes import TrainConfig
from resight.runs import Run
from resight.samples import SampleSet
from resight.samples.folds import training_folds
from resight.training import distributed, prepare, reading
from resight.training.batches import ahead
from resight.training.fit import Training
from resight.training.loader import Pictures
from resight.training.machine import is_out_of_memory
from resight.training.objectives import objective_for
from resight.training.signals import StopRequest, stop_on_signal
from resight.transfer import probe
from resight.transfer.features import OWN, Frozen, Seen, frozen
from resight.transfer.probe import Floats, Head, Labels

FEW, PLENTY = 30, 1000
"""Fewer than FEW validation pictures choose no rung: ten chose wrongly, thirty rightly (docs/transfer.md). With PLENTY
to train they do: folds would take long."""

_COUNTED = ("pictures", "probe", "tuned", "both")
_CHANCE, _Z = 0.05, 1.645


def due(config: TrainConfig, train: int, val: int) -> bool:
    """Whether the folds are asked, with so many pictures to train and to validate."""
    return config.transfer.rung == "lpft" and config.transfer.folds > 0 and val < FEW and train < PLENTY


def weigh(
    run: Run, config: TrainConfig, samples: SampleSet, parts: tuple[Pictures, Pictures], report: Any, seen: Seen
) -> None:
    """Asks the folds, and sets ``config.transfer.rung`` to ``features`` where fine-tuning is not ``better``.

    parts: train and val, as the loop takes them. ``run.card.transfer["folds"]`` gets a row for each fold when it is
    done, so that a training that was stopped goes on with the next: pictures of each class that were held out, and how
    many of them the probe, the fine-tuning and both have right. Where folds are impossible (fewer pictures or groups, a
    class in one of them only), validation decides, which is said. Raises Interrupted, NonFiniteLoss, OutOfMemory.
    """
    try:
        folds = training_folds(samples, config.transfer.folds, config.seed)
    except DataError as error:
        config.transfer.folds = 0
        report.say(f"the rung is chosen by the {len(parts[1])} validation pictures alone: {error.message}")
        return
    done = list(run.card.transfer.get("folds", []))
    if len(done) < len(folds):
        report.say(
            f"validation has {len(parts[1])} pictures, too few to choose the rung by: each of {len(folds)} parts "
            "of the training pictures is left out in turn, and answered by both"
        )
        found = frozen(config, samples, *parts, report.say, seen)
        about = run.card.transfer["probe"]
        with stop_on_signal(report.say) as stop:
            for number, part in enumerate(folds[len(done) :], start=len(done) + 1):
                row = _fold(run, config, part, (found, about), report, stop)
                done.append(row)
                if distributed.is_main():
                    run.update(transfer={**run.card.transfer, "folds": done})
                right, tuned, count = (sum(row[name]) for name in ("probe", "tuned", "pictures"))
                report.say(
                    f"fold {number} of {len(folds)}: of {count} pictures the probe has {right}, fine-tuning {tuned}"
                )
    distributed.wait()
    run.card = Run.open(run.path, sealed=False).card
    balanced = config.select == "balanced"
    begins = better(done, balanced)
    report.say(f"{said(done, balanced)}: {'all layers learn' if begins else 'the probe is the classifier'}")
    if not begins:
        config.transfer.rung, config.total_steps = "features", 0


def better(folds: Sequence[Mapping[str, Any]], balanced: bool) -> bool:
    """Whether fine-tuning is better than the probe by more than chance, at a one-sided 5 %.

    Of accuracies by the sign test on the pictures that one alone has right (McNemar 1947); of mean recalls by their
    difference over its standard error, for which each class is a sample of its own.
    """
    pictures, probed, tuned, both = (np.sum([row[name] for row in folds], axis=0) for name in _COUNTED)
    won, lost = tuned - both, probed - both
    if not balanced:
        return bool(won.sum() > lost.sum() and mcnemar(int(won.sum()), int(lost.sum())) <= 2 * _CHANCE)
    there = pictures > 0
    gain, count = (won - lost)[there], pictures[there]
    error = float(np.sqrt((((won + lost)[there] - gain**2 / count) / count**2).sum()))
    return bool((gain / count).sum() > _Z * error)


def score(folds: Sequence[Mapping[str, Any]], name: str, balanced: bool) -> float:
    """Accuracy over the held-out pictures of all folds together, or the mean recall of their classes; in [0, 1]."""
    right = np.sum([row[name] for row in folds], axis=0)
    count = np.sum([row["pictures"] for row in folds], axis=0)
    there = count > 0
    return float((right[there] / count[there]).mean() if balanced else right.sum() / count.sum())


def said(folds: Sequence[Mapping[str, Any]], balanced: bool) -> str:
    """The scores in words."""
    count = sum(sum(row["pictures"]) for row in folds)
    probed, tuned = (score(folds, name, balanced) for name in ("probe", "tuned"))
    kind = " mean recall" if balanced else ""
    luck = ", which may be chance" if tuned > probed and not better(folds, balanced) else ""
    return (
        f"the probe has {100 * probed:.1f} %{kind} of {count} training pictures held out in turn, "
        f"fine-tuning {100 * tuned:.1f} %{luck}"
    )


def _fold(
    run: Run,
    config: TrainConfig,
    part: SampleSet,
    known: tuple[Frozen, Mapping[str, Any]],
    report: Any,
    stop: StopRequest,
) -> dict[str, list[int]]:
    """Both rungs of the fold's training part, asked for the rest: pictures of each class, and those that are right."""
    train, held = reading.train_pictures(part, config), reading.eval_pictures(part, "val", config)
    head, answers = _probed(*known, part, held)
    settings = config.model_copy(deep=True)
    settings.batch = min(config.batch, len(train))
    share = len(train) / (len(train) + len(held))
    settings.total_steps = max(1, round(share * config.total_steps))  # as many epochs as with all of them
    while True:
        try:
            tuned = _tuned(run, settings, part, (train, held), head, report, stop)
            break
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            at_once = settings.micro_batch or settings.batch
            if at_once == 1 or distributed.world_size() > 1:
                raise OutOfMemory(
                    f"memory ran out with {at_once} pictures at a time",
                    hint="start again with --batch auto, or a smaller --batch or --image-size",
                ) from error
        settings.micro_batch = -(-at_once // 2)  # as the training itself goes on; the update stays the same
        report.say(f"memory ran out: comparing the rungs with {settings.micro_batch} pictures at a time")
    classes = len(part.classes)

    probed, learned = (logits.argmax(1) == held.labels for logits in (answers, tuned))
    chosen = (np.ones(len(held), bool), probed, learned, probed & learned)
    return {
        name: np.bincount(held.labels[some], minlength=classes).tolist()
        for name, some in zip(_COUNTED, chosen, strict=True)
    }


def _probed(found: Frozen, about: Mapping[str, Any], part: SampleSet, held: Pictures) -> tuple[Head, Floats]:
    """The first rung as the fold's training part makes it, and its logits of the held-out pictures, float32 (N, K)."""
    place = {key: k for k, key in enumerate(found.keys)}
    inside = np.array([place[sample.source, sample.index] for sample in held.samples], np.int64)
    rest = np.setdiff1d(np.arange(len(found.keys)), inside)
    labels: Labels = found.labels[rest]
    heads = probe.path(found.train[rest], labels, len(part.classes))
    head = next(head for penalty, head in heads if penalty == about["penalty"])
    if about["head"] == OWN and found.own is not None:  # which no fold can change
        head = found.own
    return head, head.logits(found.train[inside, 0])


def _tuned(
    run: Run,
    config: TrainConfig,
    part: SampleSet,
    parts: tuple[Pictures, Pictures],
    head: Head,
    report: Any,
    stop: StopRequest,
) -> Floats:
    """Logits of the held-out pictures after the last update, float32 (N, K). Nothing is saved."""
    from resight.transfer.ladder import put_into

    source = read_weights(config.model.weights or "", config.model.name)
    net = prepare.build_net(config, len(part.classes), source, _nobody)
    put_into(net, head)
    answered = reading.eval_pictures(part, "train", config) if config.data.fix_share else None
    training = Training(run, config, objective_for(net, config, part), *parts, report, answered=answered)
    if config.transfer.head == "new":
        training.renew_head()
    alone = training.accelerator.num_processes == 1
    for batch in ahead(training.loader.batches(0, config.total_steps), training.device):
        training.update(batch)
        if alone:
            _stop_if_asked(run, stop.number)
    result = training.evaluate(stop)
    _stop_if_asked(run, -distributed.smallest(-stop.number))
    assert result is not None
    logits: Floats = result.logits
    return logits


def _stop_if_asked(run: Run, number: int) -> None:
    if number:
        raise Interrupted(
            "stopped while the rungs were compared; the folds that are done are kept",
            signal_number=number,
            hint=f"continue with: resight resume {run.path}",
        )


def _nobody(_: str) -> None:
    """What a fold would say has been said, or will be."""
