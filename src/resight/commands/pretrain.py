"""``resight pretrain``: a network learns from pictures without labels. Its Run is what ``train`` starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resight import samples as data_sets
from resight.commands.extras import need
from resight.commands.whole_only import refuse_tiles
from resight.errors import DataError, RunError, UsageError
from resight.runs import CHECKPOINTS, CONFIG, REPORT, SPLIT, Architecture, Run, RunCard, check_free
from resight.runs.storage import write_atomic

Say = Callable[[str], None]
FEWEST = 16
"""Training pictures without which nothing is worth comparing."""


def pretrain(
    data: str | Path,
    *,
    method: str = "simclr",
    model: str | None = None,
    weights: str | Path | None = None,
    crops: int | None = None,
    epochs: float | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
    unlabelled: bool = False,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
) -> Run:
    """Pretrains a network without labels and returns its sealed Run, which has no classes.

    data: a folder of pictures, flat or nested, or any data set with labels: then these are ignored by the loss, and
    say after each epoch how well the training pictures' embeddings answer the validation pictures. The parts are those
    that ``train`` makes with the same seed, and test pictures are not looked at. method: ``simclr``, ``byol``,
    ``fastsiam`` or ``dino``. crops: how long, in crops that the network sees; or epochs. unlabelled: folders are no
    classes. out: the Run's directory, by default ``runs/DATA-MODEL-N``. set: any field of
    :class:`resight.recipes.TrainConfig` by its dotted name.

    Raises UsageError, DataError (before anything is written), TrainingError, Interrupted.
    """
    need("pretraining", "train", "torch", "accelerate", "pydantic", "jinja2", "matplotlib")
    from resight.commands.resume import finish
    from resight.recipes.options import wishes_of
    from resight.training.distributed import broadcast_path, is_main
    from resight.training.progress import reporter

    if crops is not None and epochs is not None:
        raise UsageError("--crops and --epochs exclude each other: one of them says how long to train")
    options = {
        "model": model,
        "weights": weights,
        "epochs": epochs,
        "image_size": image_size,
        "channels": channels,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "device": device,
        "precision": precision,
        "workers": workers,
        "skip_bad": skip_bad,
    }
    settings = dict(set or {})
    own = {name: settings.pop(name) for name in list(settings) if name.startswith("pretrain.")}
    wishes, recipe = wishes_of(options, settings)
    if recipe is not None:
        raise UsageError("recipe has no effect: the method is the recipe", hint="use --method")
    report, path = reporter(is_main()), None
    if is_main():
        if out is not None:
            check_free(Path(out))
        path = start(data, method, wishes | own, crops, unlabelled, out, report.say).path
    return finish(broadcast_path(path), report)


def start(
    data: str | Path,
    method: str,
    wishes: dict[str, Any],
    crops: int | None,
    unlabelled: bool,
    out: str | Path | None,
    say: Say,
) -> Run:
    """The directory of a pretraining that can begin. Raises UsageError, DataError."""
    from resight.recipes import Facts, check_effects, override, pretraining_recipe
    from resight.training import machine, named, prepare, reading

    data = named.data_path(data)
    asked = override(pretraining_recipe(method, Facts(10_000, 10, 224)), wishes)
    check_effects(asked, wishes)  # before any picture is looked at
    refuse_tiles(wishes, "resight pretrain")
    samples, bare = _read(data, asked, unlabelled, "data.test_fraction" in wishes, say)
    samples, checked = prepare.check(samples, asked.data.skip_bad, say, asked.data.channels)
    count = len(samples.part("train"))
    if count < FEWEST:
        raise DataError(
            f"{count} pictures are too few to learn from without labels; {FEWEST} are needed to begin at all",
            hint="use weights that were trained elsewhere: resight train DATA --weights TAG",
        )
    facts = Facts(count, 1, int(prepare.some_sizes(samples).min(axis=1).mean()))
    base = pretraining_recipe(method, facts)
    config, source = prepare.configure(samples.unlabelled(), checked.sizes, wishes, None, continued=base)
    config.pretrain.unlabelled = bare
    if config.data.channels != 3:  # a wish for these was refused
        config.augment.hue = config.augment.gray = 0.0
    prepare.with_path(config, data)
    if not config.data.mean:
        pictures = reading.train_pictures(samples, config, say)
        config.data.mean, config.data.std = reading.measure(pictures, config.data.channels, config.seed)
    config.threads = machine.set_threads(config.threads)
    _decide_length(config, count, crops, wishes)
    return _make(data, samples, config, source, out, say)


def _read(data: Path, asked: Any, unlabelled: bool, tested: bool, say: Say) -> tuple[data_sets.SampleSet, bool]:
    """The pictures in parts, and whether nothing is known of them."""
    from resight.samples.unlabelled import looks_labelled

    bare = unlabelled or not looks_labelled(data)
    samples = data_sets.load(
        data,
        seed=asked.seed,
        val_fraction=asked.data.val_fraction,
        test_fraction=asked.data.test_fraction if tested or not bare else 0.0,  # else nothing there is to be tested
        unlabelled=bare,
    )
    for warning in samples.warnings:
        say(f"note: {warning}")
    if not bare:
        say(
            f"labels: {len(samples.classes):,} classes, which the loss does not see; they say how well embeddings "
            "answer validation pictures. If folders are no classes: --unlabelled"
        )
    return samples, bare


def _decide_length(config: Any, count: int, crops: int | None, wishes: Mapping[str, Any]) -> None:
    from resight.pretraining.signals import seen_crops
    from resight.recipes.pretraining import CROPS
    from resight.training import prepare

    if crops is not None and ({"epochs", "total_steps"} & wishes.keys() or crops < 1):
        said = "--crops, epochs and total_steps exclude each other"
        raise UsageError(said if crops > 0 else f"--crops {crops}: at least 1")
    if not {"epochs", "total_steps"} & wishes.keys():
        config.total_steps = max(1, round((crops or CROPS) / seen_crops(config, 1)))
    prepare.resolve_steps(config, count)


def _make(data: Path, samples: data_sets.SampleSet, config: Any, source: Any, out: str | Path | None, say: Say) -> Run:
    """The directory: card, configuration, split. Raises WeightsError for weights that do not fit."""
    from resight.commands.start import free_name
    from resight.models import parameter_count
    from resight.pretraining.signals import seen_crops
    from resight.training import machine, prepare, reading

    net = prepare.build_net(config, 0, source, lambda _: None)
    how = config.pretrain
    card = RunCard(
        architecture=Architecture(config.model.name, dict(config.model.options), parameter_count(net)),
        classes=(),
        channels=config.data.channels,
        geometry=reading.geometry_of(config),
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        task="features",
        recipe=config.recipe,
        seed=config.seed,
        threads=config.threads,
        data=prepare.counts(samples),
        environment=machine.environment(),
        source="" if source is None else source.description,
        pretraining={"method": how.method, "crops": seen_crops(config, config.total_steps), "batch": config.batch},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    run = Run.create(Path(out) if out else free_name(data, f"{config.model.name}-{how.method}"), card)
    write_atomic(run.path / CONFIG, config.to_json())
    data_sets.split_csv.write(run.path / SPLIT, samples)
    counts = card.data["counts"]
    small = f" and {how.local_views} small ones of {how.local_size} px" if how.local_views else ""
    say(
        f"{run.path}: {config.model.name}, {card.architecture.parameters:,} parameters, {config.data.image_size} px, "
        f"{how.method}, {how.views} views{small}; {counts['train']:,} pictures to learn from, {counts['val']:,} to "
        f"look at; {card.pretraining['crops']:,} crops in {config.total_steps:,} updates of {config.batch} pictures; "
        f"{config.device} {config.precision}, {config.threads} threads"
    )
    if source is not None:
        say(f"starting from {source.description}")
    return run


def build(run: Run, config: Any, samples: data_sets.SampleSet, report: Any, *, fresh: bool) -> Any:
    """A ``Training`` of a pretraining; ``fresh``: with the weights that it starts from, else to restore."""
    from resight.models import read_weights
    from resight.pretraining.build import pretraining_for
    from resight.pretraining.signals import Signals
    from resight.training import machine, prepare, reading
    from resight.training.fit import Training

    machine.set_threads(config.threads)
    machine.keep_memory()
    bare = samples.unlabelled()
    train_set = reading.train_pictures(bare, config, report.say)
    val_set = reading.eval_pictures(bare, "val", config, report.say)
    source = read_weights(config.model.weights, config.model.name) if fresh and config.model.weights else None
    net = prepare.build_net(config, 0, source, report.say)
    signals = Signals(config)
    if samples.labelled and samples.task == "single":
        bank = reading.eval_pictures(samples, "train", config, report.say)
        labels = samples.targets(samples.part("val"))
        signals = Signals(config, bank, labels, len(samples.classes))
    return Training(run, config, pretraining_for(net, config), train_set, val_set, report, judge=signals)


def conclude(run: Run, config: Any, samples: data_sets.SampleSet, say: Say) -> None:
    """Seals a Run that has made its last step. The last weights are kept: nothing was chosen by labels."""
    from resight.exporting.pretrained import seal_pretrained
    from resight.pretraining.build import pretraining_for
    from resight.training import prepare
    from resight.training.checkpoint import load_checkpoint, newest

    last = newest(run, lambda _: None)
    if last is None or last.state.best_name is None:
        raise RunError(f"{run.path} has no whole checkpoint to finish from", hint="pretrain again")
    objective = pretraining_for(prepare.build_net(config, 0, None, lambda _: None), config)
    objective.body.load_state_dict(load_checkpoint(run.path / CHECKPOINTS / last.state.best_name).weights)
    history = last.state.history
    signals = {name: history[-1][name] for name in _TOLD if name in history[-1]}
    run.update(pretraining={**run.card.pretraining, "signals": signals})
    seal_pretrained(run, objective.kept, samples, history, say)
    say(
        f"\nthe Run lies in {run.path}\n  look: {run.path / REPORT}\n"
        f"  train with the labels there are: resight train DATA --weights {run.path}\n"
        f"  pictures that are alike: resight embed {run.path} PICTURES --similar-to PICTURE"
    )


_TOLD = ("train_loss", "train_accuracy", "spread", "rank", "alignment", "uniformity", "knn", "linear")
