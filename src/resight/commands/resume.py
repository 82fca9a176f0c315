"""``resight resume``: from wherever a training stands to its sealed Run; a new training is finished the same way."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from resight import samples as data_sets
from resight.commands import pretrain
from resight.commands.extras import need
from resight.errors import DataError, OutOfMemory, RunError, UsageError
from resight.runs import CHECKPOINTS, CONFIG, REPORT, SPLIT, Run, is_crossval
from resight.runs.storage import exclusive, write_atomic


def resume(run: str | Path) -> Run:
    """Continues a training exactly where its newest whole checkpoint was made; returns the sealed Run.

    A finished Run is returned as it is; of a study (``resight tune``, ``resight study depth``), its best Run by
    validation. Raises RunError, RunLocked, DataError when the data changed.
    """
    from resight.commands import study, tune

    if tune.is_study(run):
        return tune.go_on(run).run
    if study.is_depth_study(run):
        return study.go_on(run).best
    need("training", "train", "torch", "accelerate", "pydantic", "jinja2", "matplotlib")  # the last two: report.html
    from resight.training.distributed import is_main
    from resight.training.progress import reporter

    if is_crossval(Path(run)):
        raise UsageError(f"{run} is a cross-validation, not a Run", hint="go on with the same resight crossval command")
    return finish(Path(run), reporter(is_main()))


def finish(
    path: Path,
    report: Any,
    *,
    to_seal: bool = True,
    seen: dict[str, Any] | None = None,
    observe: Callable[[Any], None] | None = None,
) -> Run:
    """Trains from where the Run stands to its seal: the one way for new and for resumed trainings.

    Without ``to_seal`` only to the last step: the status is "trained" then, and the test part was not answered.
    seen: frozen features of other trainings with the same pictures (``features.Seen``), to which its own are added.
    observe: called with the ``Training`` before its first step here; it may look, not touch.
    """
    from resight.exporting.seal import seal
    from resight.training import distributed, machine, reading, room
    from resight.training.spent import counted

    run = Run.open(path, sealed=False)
    if run.card.status == "sealed":
        report.say(f"{path} is finished: nothing to do")
        return run
    main = distributed.is_main()
    with exclusive(path) if main else nullcontext(), counted(path) if main else nullcontext():
        run = Run.open(path, sealed=False)  # again: another process may have gone on until just now
        config = _config(run)
        _same_settings(run, config)
        samples = _samples(run, config)
        if run.card.status == "training":
            _fit(run, config, samples, report, seen, observe)
            distributed.wait()
            if main:
                run.set_status("trained")
        if main and to_seal:
            machine.give_memory_back()  # the activations' blocks: sealing loads libraries, and holds the graph twice
        if main and to_seal and run.card.task == "features":
            pretrain.conclude(run, config, samples, report.say)
        elif main and to_seal:
            objective = _best(run, config, samples)
            if config.transfer.rung != "none":
                _conclude(run, config)
            val = reading.eval_pictures(samples, "val", config)
            seal(run, objective.net, samples, _logits(objective, val, config), report.say)
            _summary(run, report.say)
            if config.memory_gb:
                report.say(room.taken(config))
        distributed.wait()
    return Run.open(path, sealed=to_seal)


def _config(run: Run) -> Any:
    from resight.recipes import TrainConfig

    return TrainConfig.from_json(run.file(CONFIG).read_bytes(), str(run.path / CONFIG))


def _samples(run: Run, config: Any) -> data_sets.SampleSet:
    """The data as they were split. Raises DataError with a diff when they or their classes changed."""
    from resight.samples.model import show_names

    samples = data_sets.load(
        config.data.path, split_csv=run.file(SPLIT), classes=run.classes, unlabelled=config.pretrain.unlabelled
    )
    if samples.classes != run.classes and run.card.task != "features":
        raise DataError(
            f"the classes changed since {run.path} was started: it has {show_names(run.classes)}; "
            f"the data have {show_names(samples.classes)}",
            hint="restore the folders, or start a new training",
        )
    if samples.fingerprint() != run.card.data["fingerprint"]:
        raise DataError(
            f"the pictures in {config.data.path} changed since {run.path} was started: the same names, other content",
            hint="restore the pictures, or start a new training",
        )
    return samples


def _same_settings(run: Run, config: Any) -> None:
    """Raises RunError with a diff when config.json no longer says what the Run was started as."""
    from resight.training import reading

    card = run.card
    model = card.architecture
    pairs = {
        "model": ((model.name, model.options), (config.model.name, config.model.options)),
        "geometry": (card.geometry, reading.geometry_of(config)),
        "channels": (card.channels, config.data.channels),
        "task": (card.task, config.task if config.pretrain.method == "none" else "features"),
        "mean": (list(card.mean), config.data.mean),
        "std": (list(card.std), config.data.std),
        "seed": (card.seed, config.seed),
    }
    changed = [f"{name} was {was} and is {now}" for name, (was, now) in pairs.items() if was != now]
    if changed:
        raise RunError(
            f"{run.path / CONFIG} was changed since the training was started: {'; '.join(changed)}",
            hint="restore it, or start a new training",
        )


def _fit(
    run: Run,
    config: Any,
    samples: data_sets.SampleSet,
    report: Any,
    seen: dict[str, Any] | None = None,
    observe: Callable[[Any], None] | None = None,
) -> None:
    """Runs the loop; when memory runs out, once more from the last checkpoint with half the micro-batch."""
    from resight.training.checkpoint import newest
    from resight.training.machine import is_out_of_memory
    from resight.training.progress import TensorBoard

    if config.tensorboard and report.writes:
        report = TensorBoard(report, run.path / "tensorboard")
    micro_batch = 0
    while True:
        checkpoint = newest(run, report.say)
        begun = checkpoint is not None and bool(checkpoint.state.history)
        training = build_training(run, config, samples, report, fresh=checkpoint is None, begun=begun, seen=seen)
        if checkpoint is not None:
            training.restore(checkpoint)
        training.state.micro_batch = micro_batch or training.state.micro_batch
        if observe is not None:
            observe(training)
        try:
            training.fit()
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if training.accelerator.num_processes > 1:
                raise OutOfMemory(
                    f"memory ran out with {training.state.micro_batch} pictures at a time in each process",
                    hint="start again with --batch auto, or a smaller --set micro_batch=N",
                ) from error
            if training.objective.whole:
                raise OutOfMemory(
                    f"memory ran out with {training.state.micro_batch} pictures, which this loss needs at once",
                    hint="start again with a smaller --batch, --model or --image-size",
                ) from error
            micro_batch = -(-training.state.micro_batch // 2)
            if training.state.micro_batch == 1:
                raise OutOfMemory(
                    "memory ran out even with one picture at a time",
                    hint="use a smaller --model or --image-size, or --set model.checkpointing=true",
                ) from error
        del training
        report.say(
            f"memory ran out: going on with {micro_batch} pictures at a time. Updates still use "
            f"{config.batch} pictures; BatchNorm now sees {micro_batch} at once, which changes results slightly"
        )


def build_training(
    run: Run,
    config: Any,
    samples: data_sets.SampleSet,
    report: Any,
    *,
    fresh: bool,
    begun: bool = False,
    seen: dict[str, Any] | None = None,
) -> Any:
    """A ``Training`` of the Run, from its first step; ``fresh``: with the weights it starts from, else to restore.
    begun: there is a checkpoint to restore in which the start of the ladder is validated."""
    if config.pretrain.method != "none":
        return pretrain.build(run, config, samples, report, fresh=fresh)
    from resight.models import read_weights
    from resight.training import continuing, distributed, machine, prepare, reading
    from resight.training.bags import Bags, seen_by
    from resight.training.fit import Training
    from resight.training.objectives import objective_for
    from resight.training.rare import start_with_rare
    from resight.training.whitening import whiten

    machine.set_threads(config.threads)
    if config.model.checkpointing is True:
        machine.return_memory()
    else:
        machine.keep_memory()
    train_set = reading.train_pictures(samples, config, report.say)
    val_set = reading.eval_pictures(samples, "val", config, report.say)
    answered = reading.eval_pictures(samples, "train", config, report.say) if config.data.fix_share else None
    head, seen = None, {} if seen is None else seen
    if config.transfer.rung != "none" and not begun:
        from resight.transfer import ladder, weighing

        head = ladder.first_rung(run, config, samples, train_set, val_set, report.say, seen)

    def build(say: Callable[[str], None]) -> Training:
        weights = config.model.weights if fresh else None
        if weights and run.card.continues:
            net = continuing.build(run.card, config, say)
        else:
            source = read_weights(weights, config.model.name) if weights else None
            net = prepare.build_net(config, len(samples.classes), source, say)
        if config.model.whitening and fresh:
            whiten(net, train_set, config)
        objective, start = objective_for(net, config, samples), None
        if head is not None:
            ladder.put_into(net, head)
            start = ladder.starting_from(run)
        if isinstance(objective, Bags):
            objective.to(config.device)  # tiles are looked at before the loop begins
        pictures, held = seen_by(objective, train_set, val_set, say)
        if fresh and isinstance(objective, Bags) and config.tiles.start == "rare":
            start_with_rare(objective, pictures, say)
        return Training(run, config, objective, pictures, held, report, start, answered)

    open_length = config.total_steps == 0 and config.transfer.rung != "features"
    if open_length:
        _estimate(run, config, build, report.say)
    if head is not None and weighing.due(config, len(train_set), len(val_set)):
        weighing.weigh(run, config, samples, (train_set, val_set), report, seen)
        if distributed.is_main():
            write_atomic(run.path / CONFIG, config.to_json())
    return build(report.say)


def _estimate(run: Run, config: Any, build: Callable[..., Any], say: Callable[[str], None]) -> None:
    """Decides what must be measured, and freezes it in config.json: steps for a budget."""
    from resight.training import distributed
    from resight.training.estimate import steps_for

    if config.transfer.rung == "lpft":
        from resight.transfer import ladder

        ladder.decide_length(run, config, build, say)
    else:
        config.total_steps = 1_000_000  # the schedule needs a number while the speed is measured
        trial = build(lambda _: None)
        config.total_steps = distributed.smallest(steps_for(trial, config.budget_seconds))
        epochs = config.total_steps / trial.loader.steps_per_epoch
        config.epochs = epochs
        say(f"budget: {config.total_steps} steps ({epochs:.1f} epochs) fit into {config.budget_seconds:.0f} s")
    if distributed.is_main():
        write_atomic(run.path / CONFIG, config.to_json())


def _best(run: Run, config: Any, samples: data_sets.SampleSet) -> Any:
    """The network with the best weights by validation: the averaged ones where averaging is on."""
    from resight.errors import RunError
    from resight.training import prepare
    from resight.training.checkpoint import load_checkpoint, newest
    from resight.training.objectives import supervised

    last = newest(run, lambda _: None)
    if last is None or last.state.best_name is None:
        raise RunError(f"{run.path} has no whole checkpoint to finish from", hint="train again")
    best = load_checkpoint(run.path / CHECKPOINTS / last.state.best_name)
    net = prepare.build_net(config, len(samples.classes), None, lambda _: None)
    net.load_state_dict(best.average or best.weights)
    return supervised(net, config, samples)


def _conclude(run: Run, config: Any) -> None:
    """Writes what the ladder kept, and why, into the card."""
    from resight.training.checkpoint import newest
    from resight.transfer.ladder import conclusion

    last = newest(run, lambda _: None)
    if last is not None:
        run.update(transfer=conclusion(run.card.transfer, config, last.state.history))


def _logits(objective: Any, pictures: Any, config: Any) -> Any:
    import numpy as np

    from resight.training.needs import LOGITS
    from resight.training.validate import answers

    parts = answers(objective, pictures, np.arange(len(pictures)), min(LOGITS, config.micro_batch or config.batch))
    return np.concatenate([part.cpu().numpy() for part in parts])


def _summary(run: Run, say: Callable[[str], None]) -> None:
    from resight.evaluation import Evaluation, read_evaluation

    part = run.metrics.part
    found = read_evaluation(run.card.metrics[part])
    say(f"\n{part} part\n{found.to_text(max_classes=20)}")
    if run.card.continues and isinstance(found, Evaluation):
        from resight.training.continuing import by_age

        say("\n" + "\n".join(by_age(found, part, run.card.continues)))
    if run.card.transfer:
        say(f"\nkept: {run.card.transfer['kept']}, because {run.card.transfer['why']}")
    say(
        f"\nthe Run lies in {run.path}{os.sep}\n  look: {run.path / REPORT}\n  try: resight predict {run.path} PICTURES"
    )
