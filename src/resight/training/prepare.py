"""From a data set and wishes to a complete configuration, and from that to pictures and a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from resight.errors import DataError, UsageError
from resight.images import MAX_PIXELS, MAX_TILED_PIXELS, probe
from resight.models import ResNet, Source, create, guess, load_weights, read_weights, spec_of, stem_for, zero_gamma
from resight.recipes import Facts, TrainConfig, check_effects, check_task, check_wishes, override, recipe
from resight.recipes.tiles import TILES, check_tiles, decide_tiles, with_tiles
from resight.samples import LEFT_OUT, CheckReport, SampleSet, check_files, printable
from resight.training import reading
from resight.training.channels import channels_of, check_one_number, decide_statistics
from resight.training.machine import available_cores, resolve_device, resolve_precision
from resight.training.multilabel import check_classes
from resight.training.parts import freeze

LEAST_BLURRED = 64  # pixels: below, the widest blur rounds to nothing


def check(
    samples: SampleSet, skip_bad: bool, say: Callable[[str], None], channels: int = 0, max_pixels: int = MAX_PIXELS
) -> tuple[SampleSet, CheckReport]:
    """Decodes every picture once. Raises DataError listing all bad ones, unless they are to be skipped.

    channels: pictures that cannot be had with so many are bad; 0 takes any that all can be had with.
    """
    report = check_files(samples, threads=available_cores(), channels=channels or None, max_pixels=max_pixels)
    if report.misnamed:
        names = ", ".join(f"{printable(source)} is {form}" for source, form in report.misnamed[:3])
        say(f"{len(report.misnamed)} pictures have another format than their names say (read all the same): {names}")
    if not channels:
        check_one_number(samples, report)
    if not report.bad:
        return samples, report
    lines = "\n".join(f"  {printable(source)}: {reason}" for source, reason in report.bad[:50])
    more = f"\n  and {len(report.bad) - 50} more" if len(report.bad) > 50 else ""
    if not skip_bad:
        raise DataError(
            f"{len(report.bad)} of {len(samples)} pictures cannot be read:\n{lines}{more}",
            hint="repair or remove them, or train without them: --skip-bad",
        )
    say(f"skipping {len(report.bad)} pictures that cannot be read:\n{lines}{more}")
    return samples.without(report.bad), report


def configure(
    samples: SampleSet,
    sizes: np.ndarray,
    wishes: dict[str, Any],
    recipe_name: str | None,
    continued: TrainConfig | None = None,
    known: Source | None = None,
) -> tuple[TrainConfig, Source | None]:
    """The recipe for these data with the wishes applied and every ``auto`` decided, and the weights to start from.

    continued: the settings of a Run that is continued, which take the place of a recipe that is not named. known: what
    is known of the weights that the wishes name, instead of reading (and perhaps fetching) them.

    Raises UsageError for wishes that do not exist, contradict each other or would have no effect.
    """
    if "data.disk_cache_gb" in wishes and samples.kind in reading.ARRAYS:
        raise UsageError(
            "data.disk_cache_gb has no effect on a data set of array files (idx, CIFAR): they are decoded already",
            hint="leave it out",
        )
    count = len(samples.part("train"))
    side = int(np.median(sizes.min(axis=1)))
    facts = Facts(count, len(samples.classes), side, samples.task, str(wishes.get("model.name", "")))
    check_classes(samples)
    weights = wishes.get("model.weights")
    tiled = wishes.get("data.geometry") == TILES
    name = recipe_name or _default_recipe(weights, samples.task, tiled)
    base = continued if continued and not recipe_name else recipe(name, facts)
    source = None
    if weights:
        source = known or read_weights(weights, wishes.get("model.name", base.model.name))
        if source.geometry and source.geometry.kind == TILES and "data.geometry" not in wishes:
            tiled = True
            base = base if recipe_name or continued else recipe(_default_recipe(weights, tiled=True), facts)
        base = _follow_weights(base, source)
    if tiled:
        base = with_tiles(base, frozen=wishes.get("model.freeze") == "backbone")
    check_wishes(samples.task, wishes)
    config = override(base, wishes)
    check_effects(config, wishes)
    check_task(config, wishes)
    check_tiles(config, wishes)
    _decide_data(config, samples, facts, source)
    _check_colours(config, wishes)
    decide_tiles(config, wishes, source is not None and "attention.V.weight" in source.state)
    _decide_model(config, source)
    if config.batch > count:
        config.batch = count
    config.device = resolve_device(config.device)  # type: ignore[assignment]  # checked when it is assigned
    config.precision = resolve_precision(config.precision, config.device)  # type: ignore[assignment]
    return config, source


def _follow_weights(config: TrainConfig, source: Source) -> TrainConfig:
    """Architecture, geometry and normalisation that the weights bring with them."""
    known = (source.architecture, dict(source.options or {})) if source.architecture else guess(source.state)
    if known:
        config.model.name, config.model.options = known[0], dict(known[1])
        if spec_of(config.model.name, **config.model.options).stem == "cifar":
            config.data.image_size, config.data.crop_ratio = 32, 1.0  # unless the weights say more, below
    if source.geometry:
        geometry = source.geometry
        config.data.image_size = geometry.size
        config.data.geometry = geometry.kind
        config.data.crop_ratio = geometry.size / geometry.resize
        config.data.interpolation = geometry.interpolation
        config.tiles.side, config.tiles.stride = geometry.tile, geometry.stride
        config.tiles.attention = config.model.options.get("attention") or config.tiles.attention  # type: ignore[assignment]
    if source.mean and source.std:
        config.data.mean, config.data.std = list(source.mean), list(source.std)
    return config


def _check_colours(config: TrainConfig, wishes: dict[str, Any]) -> None:
    """Hue and greying are of RGB alone. Raises UsageError where they were asked for and there is none."""
    for name in ("augment.hue", "augment.gray"):
        if wishes.get(name) and config.data.channels != 3:
            raise UsageError(
                f"{name} has no effect: pictures have {config.data.channels} channels", hint="leave it out"
            )


def _decide_data(config: TrainConfig, samples: SampleSet, facts: Facts, source: Source | None) -> None:
    data = config.data
    if data.image_size < 28:
        raise UsageError(f"the image size must be at least 28 px, not {data.image_size}", hint="--image-size 32")
    data.train_size = data.train_size or data.image_size
    if data.train_size < 28:
        raise UsageError(f"the training size must be at least 28 px, not {data.train_size}")
    if config.augment.blur and data.train_size < LEAST_BLURRED:
        raise UsageError(
            f"augment.blur has no effect on pictures of {data.train_size} px: it is of at most 1 % of the side",
            hint=f"leave it out, or train with pictures of {LEAST_BLURRED} px or more",
        )
    data.channels = data.channels or channels_of(samples)
    decide_statistics(data, source)


def _decide_model(config: TrainConfig, source: Source | None) -> None:
    options = {name: value for name, value in config.model.options.items() if name != "attention"}
    config.model.options = options | ({"attention": config.tiles.attention} if config.data.geometry == TILES else {})
    spec = spec_of(config.model.name, **config.model.options)
    if "stem" not in config.model.options and source is None:
        stem = stem_for(spec, config.data.image_size)
        if stem != spec.stem:
            config.model.options = {**config.model.options, "stem": stem}
    if spec.shortcut == "none" or source is not None:
        config.model.zero_gamma = False


def first_look(wishes: dict[str, Any], recipe_name: str | None, continued: TrainConfig | None = None) -> TrainConfig:
    """The wishes on top of the recipe for assumed data. Raises UsageError before any real data are touched."""
    if continued and not recipe_name:
        return override(continued, wishes)
    name = recipe_name or _default_recipe(wishes.get("model.weights"), tiled=wishes.get("data.geometry") == TILES)
    config = override(recipe(name, Facts(count=10_000, classes=10, side=224)), wishes)
    if not config.model.weights and (config.transfer.rung != "none" or config.model.freeze != "none"):
        what = "model.freeze keeps" if config.model.freeze != "none" else f"the recipe {config.recipe} starts from"
        raise UsageError(f"{what} weights that were trained before", hint="say which: --weights TAG|PATH|RUN")
    return config


def _default_recipe(weights: str | None, task: str = "single", tiled: bool = False) -> str:
    """Of no weights ``quick``; the ladder, or ``finetune`` where pictures have any number of labels or are cut into
    tiles: its probe is a regression over one class and one square."""
    return "quick" if not weights else "transfer" if task == "single" and not tiled else "finetune"


def build_net(config: TrainConfig, classes: int, source: Source | None, say: Callable[[str], None]) -> ResNet:
    """The network, initialised from the seed or from weights."""
    import torch

    torch.manual_seed(config.seed)
    options: dict[str, Any] = dict(config.model.options)
    net = create(config.model.name, num_classes=classes, in_channels=config.data.channels, **options)
    if config.model.zero_gamma:
        zero_gamma(net)
    if source is not None:
        loaded = load_weights(net, source)
        for note in loaded.report.notes:
            say(note)
    freeze(net, config.model.freeze)
    net.checkpointing = config.model.checkpointing is True  # auto: nobody has decided for it
    return net


def counts(samples: SampleSet) -> dict[str, Any]:
    """What run.json says about the data."""
    by_part = Counter(sample.split for sample in samples.samples)
    return {
        "fingerprint": samples.fingerprint(),
        "counts": {part: by_part[part] for part in ("train", "val", "test")},
        "skipped": [[sample.source, reason] for sample, reason in samples.dropped if reason != LEFT_OUT],
        "left_out": sum(reason == LEFT_OUT for _, reason in samples.dropped),
        "warnings": list(samples.warnings),
    }


def resolve_steps(config: TrainConfig, count: int) -> None:
    """Turns epochs into a number of steps, at least one; a number of steps that was asked for into epochs."""
    per_epoch = count // config.batch
    if config.total_steps:
        config.epochs = config.total_steps / per_epoch
    config.total_steps = config.total_steps or max(1, round(config.epochs * per_epoch))


def with_path(config: TrainConfig, path: str | Path) -> None:
    resolved = str(Path(path).resolve())
    try:
        resolved.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the path {printable(resolved)} is not valid Unicode, which config.json needs", hint="rename it"
        ) from None
    config.data.path = resolved


def some_sizes(samples: SampleSet, most: int = 200) -> np.ndarray:
    """Width and height of up to ``most`` pictures spread over the data set, int64 (n, 2)."""
    step = max(1, len(samples) // most)
    sizes = []
    for sample in samples.samples[::step]:
        if sample.index is not None:
            height, width = samples.array(sample.source).shape[1:3]
        else:
            info = probe(samples.path(sample), max_pixels=MAX_TILED_PIXELS)
            height, width = info.height, info.width
        sizes.append((width, height))
    return np.array(sizes, np.int64)
