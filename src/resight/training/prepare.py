"""From a data set and wishes to a complete configuration, and from that to pictures and a network."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resight.errors import DataError, UsageError
from resight.images import MAX_PIXELS, MAX_TILED_PIXELS, Geometry, decoder_versions, probe
from resight.models import ResNet, Source, create, guess, load_weights, read_weights, spec_of, stem_for, zero_gamma
from resight.recipes import Facts, TrainConfig, check_effects, check_task, check_wishes, override, recipe
from resight.recipes.tiles import TILES, check_tiles, decide_tiles, tile_geometry, with_tiles
from resight.runs.storage import cache_directory
from resight.samples import LEFT_OUT, CheckReport, Sample, SampleSet, check_files, printable
from resight.training.augment import to_short
from resight.training.channels import channels_of, check_one_number, decide_statistics
from resight.training.loader import Disk, Pictures
from resight.training.machine import available_cores, resolve_device, resolve_precision
from resight.training.multilabel import check_classes
from resight.training.parts import freeze
from resight.training.picture_cache import KIND, PictureCache

ARRAYS = ("idx", "cifar")  # kinds of data sets that are array files: decoded already
LEAST_BLURRED = 64  # pixels: below, the widest blur rounds to nothing
_MEASURED = 2000  # pictures that the mean and deviation are measured on


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
    if "data.disk_cache_gb" in wishes and samples.kind in ARRAYS:
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


def measure(pictures: Pictures, channels: int, seed: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, of pixels in [0, 1], over up to 2,000 training pictures."""
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:_MEASURED]

    def sums(index: np.int64) -> tuple[np.ndarray, np.ndarray, int]:
        """Of one picture's pixels, exact in whole numbers: so their order changes nothing."""
        pixels = pictures[int(index)].reshape(-1, channels)
        return pixels.sum(0, np.uint64), np.square(pixels, dtype=np.uint16).sum(0, np.uint64), len(pixels)

    with ThreadPoolExecutor(available_cores(), thread_name_prefix="resight-measure") as pool:
        found = list(pool.map(sums, chosen))
    count = sum(pixels for _, _, pixels in found)
    total = np.sum([first for first, _, _ in found], axis=0) / 255.0
    squares = np.sum([second for _, second, _ in found], axis=0) / 255.0**2
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
    return np.round(mean, 4).tolist(), np.maximum(np.round(std, 4), 1e-3).tolist()


def geometry_of(config: TrainConfig) -> Geometry:
    """How pictures are answered."""
    data = config.data
    if data.geometry == TILES:
        return tile_geometry(config)
    resize = max(data.image_size, round(data.image_size / data.crop_ratio))
    return Geometry(data.geometry, data.image_size, resize, data.interpolation, data.geometry_version)


def train_pictures(samples: SampleSet, config: TrainConfig, say: Callable[[str], None] | None = None) -> Pictures:
    """The training part: squares at the training size, or, for random crops, whole pictures not larger than needed; to
    be cut into tiles, whole pictures as they are.

    Both are decoded as they are for answering at the training size: by ``Geometry.reduction``. So a random crop of
    average area is never enlarged, nor is the smallest of a picture that was decoded in full. Where a picture is
    squashed or letterboxed to be answered, crops are cut from a larger such square (``augment.crop_from``).
    """
    data, answer = config.data, geometry_of(config)
    if data.geometry == TILES:
        return _pictures(samples, "train", answer, config, say)
    resize = max(data.train_size, round(data.train_size * answer.resize / answer.size))
    whole = config.augment.crop == "resized"
    kind = "crop" if whole and config.augment.crop_from == "picture" else data.geometry
    geometry = Geometry(kind, data.train_size, resize, data.interpolation, data.geometry_version)
    if not whole:
        return _pictures(samples, "train", geometry, config, say)
    short = math.ceil(data.train_size / math.sqrt(config.augment.scale_min))
    return _pictures(samples, "train", geometry, config, say, short=short)


def eval_pictures(
    samples: SampleSet, part: str, config: TrainConfig, say: Callable[[str], None] | None = None
) -> Pictures:
    """A part as it will be answered: through the Run's geometry."""
    return _pictures(samples, part, geometry_of(config), config, say)


def _pictures(
    samples: SampleSet,
    part: str,
    geometry: Geometry,
    config: TrainConfig,
    say: Callable[[str], None] | None,
    short: int = 0,
) -> Pictures:
    """Squares by ``geometry``; with ``short``, what crops are cut from: whole pictures with a shorter side of at most
    so many pixels, or, by another geometry than ``crop``, squares of at most that side; for tiles, whole pictures.
    """
    data = config.data

    def read(sample: Sample, content: bytes | None = None) -> np.ndarray:
        pixels = samples.read(sample, data.channels, geometry=geometry, data=content)
        if geometry.kind == TILES:
            return pixels
        if not short:
            return geometry.apply(pixels)
        if geometry.kind == "crop":
            return to_short(pixels, short, data.interpolation == "bicubic")
        return replace(geometry, size=min(short, max(pixels.shape[:2]))).apply(pixels)

    room = int(data.cache_gb * 2**30) // (1 if part == "train" else 4)
    limit = int(data.disk_cache_gb * 2**30)
    chosen = samples.part(part)
    targets = samples.targets(chosen)
    if not limit or samples.kind in ARRAYS:
        return Pictures(chosen, read, room, targets=targets)
    preparation = {
        "geometry": geometry.to_dict(),
        "short": short,
        "channels": data.channels,
        "versions": _versions(bool(short)),
    }

    def fits(height: np.ndarray, width: np.ndarray, channels: np.ndarray) -> np.ndarray:
        square = (height == geometry.size) & (width == geometry.size)
        whole = short or geometry.kind == TILES
        found: np.ndarray = (channels == data.channels) & (height * width <= geometry.max_pixels if whole else square)
        return found

    cache = PictureCache(
        cache_directory(KIND), preparation, data=str(samples.root), limit=limit, say=say or _to_stderr, fits=fits
    )
    return Pictures(chosen, read, room, Disk(cache, samples.file_bytes), targets)


def _versions(resized_by_torch: bool) -> dict[str, str]:
    """Of what decodes and resizes: another one may round differently."""
    import torch

    versions = decoder_versions()
    if resized_by_torch:
        versions["torch"] = f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()}"
    return versions


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")


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
