"""``resight import``: a Run from weights that were trained elsewhere."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.commands.extras import need
from resight.errors import StorageError, UsageError
from resight.images import MAX_CHANNELS, Geometry, printable
from resight.runs import CARD, Architecture, Run, RunCard, check_free
from resight.runs.storage import storage_errors

if TYPE_CHECKING:
    from resight.models import Source

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PARITY_PICTURES = 16


def _stderr(text: str) -> None:
    sys.stderr.write(printable(text, 2000) + "\n")


def import_weights(
    source: str | Path,
    *,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
    classes: str | Path | Sequence[str] | None = None,
    image_size: int | None = None,
    crop_ratio: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    out: str | Path | None = None,
    say: Callable[[str], None] = _stderr,
) -> Run:
    """Makes a sealed Run of a tag (``resnet50.tv2_in1k``) or a weights file.

    options: fields of :class:`resight.models.ResNetSpec` that differ from the model's, e.g. ``{"stem": "tiny"}``.
    classes: names in the order of the outputs: a list, a text file with one a line, or a data set whose classes
    they are; needed where the weights bring none. image_size, crop_ratio, mean, std: where the weights do not say:
    32 px for the CIFAR type, else 224 px with crop ratio 0.875, and ImageNet's statistics; assumptions are said.
    The Run is not calibrated (temperature 1), and has no metrics until it is evaluated.

    Raises UsageError, WeightsError, DownloadError; then nothing is left behind.
    """
    need("importing weights", "train", "torch", "torchvision", "safetensors", "onnxscript")
    from resight.models import create, load_weights, parameter_count, read_weights
    from resight.training import machine

    _check_numbers(image_size, crop_ratio, mean, std)
    target = Path(out) if out else _free_name(source)
    check_free(target)
    if (Path(source) / CARD).exists():
        raise UsageError(f"{source} is a Run already", hint=f"use it as it is: resight predict {source} PICTURES")
    weights = read_weights(source, model)
    name, chosen = _architecture(weights, model, options, say)
    if weights.multilabel:
        raise UsageError(
            f"{weights.description} answers with any number of labels: its thresholds cannot be imported",
            hint="use the Run itself, or train from it: resight train DATA --weights RUN",
        )
    names = _class_names(weights, classes)
    channels = _channels(weights, mean)
    net = create(name, num_classes=len(names), in_channels=channels, **chosen)
    loaded = load_weights(net, weights)
    if loaded.report.replaced_head:
        raise UsageError(
            f"{len(names)} class names were given, but the weights answer with "
            f"{loaded.report.head_from or 'no'} classes",
            hint="give one name for each output, in their order: --classes FILE",
        )
    for note in [*loaded.report.notes, *([f"licence of these weights: {weights.license}"] if weights.license else [])]:
        say(f"note: {note}")
    used_mean, used_std = _statistics(loaded.mean, loaded.std, channels, mean, std, say)
    card = RunCard(
        architecture=Architecture(name, dict(chosen), parameter_count(net)),
        classes=names,
        channels=channels,
        geometry=_geometry(weights, net.spec.stem == "cifar", image_size, crop_ratio, say),
        mean=used_mean,
        std=used_std,
        environment=machine.environment(),
        source=weights.description + (f", licence {weights.license}" if weights.license else ""),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    run = _sealed(target, card, net)
    say(f"{run.path}: {name}, {len(names)} classes, {run.card.geometry.size} px, from {weights.description}")
    return run


def _sealed(target: Path, card: RunCard, net: Any) -> Run:
    """Makes the Run beside its place and moves it there when it is whole, so that no half Run can be met."""
    staging = target.with_name(f".{target.name}.importing-{os.getpid()}")
    try:
        run = Run.create(staging, card)
        _seal(run, net)
        with storage_errors(target):
            if target.exists():
                target.rmdir()  # an empty folder, as check_free saw
            os.rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Run.open(target)


def cached_import(source: str) -> Run:
    """The Run of these weights from the cache, imported there at the first use.

    The cache is ``$RESIGHT_CACHE/runs`` or ``~/.cache/resight/runs``. A file is known by its content. Of several
    processes that want the same Run, the first imports it.
    """
    from resight.runs.storage import cache_directory, make_cache

    path, root = Path(source), cache_directory("runs")
    digest = f"-{_digest(path)}" if path.is_file() else ""
    place = root / (re.sub(r"[^\w.-]+", "-", path.name) + digest)
    if not (place / CARD).exists():
        try:
            make_cache(root)
            return import_weights(source, out=place)
        except (UsageError, StorageError):  # perhaps another process was faster: then its Run is whole
            if not (place / CARD).exists():
                raise
    return Run.open(place)


def _check_numbers(
    size: int | None, ratio: float | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> None:
    """Raises UsageError for values that no Run can have."""
    if size is not None and size < 28:
        raise UsageError(f"the image size must be at least 28 px, not {size}")
    if ratio is not None and not 0 < ratio <= 1:
        raise UsageError(f"the crop ratio must be above 0 and at most 1, not {ratio}")
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std belong together, with one number a channel each")
    if mean is not None and std is not None:
        sound = len(mean) == len(std) <= MAX_CHANNELS
        if not sound or not all(map(math.isfinite, [*mean, *std])) or min(std) <= 0:
            raise UsageError(
                f"--mean {list(mean)} and --std {list(std)}: expected as many numbers each as the pictures have "
                "channels, of pixels in [0, 1], deviations above 0"
            )


def _channels(weights: Source, mean: Sequence[float] | None) -> int:
    """By the first convolution of the weights; 1 for 3, and 3 for 1, where there are so many numbers in ``mean``."""
    kernels = (tensor for tensor in weights.state.values() if tensor.ndim == 4)
    found = next((tensor.shape[1] for tensor in kernels), 3)
    if not 1 <= found <= MAX_CHANNELS:
        raise UsageError(f"{weights.description} takes {found} channels; a Run answers for 1 to {MAX_CHANNELS}")
    if mean and len(mean) != found and {len(mean), found} != {1, 3}:
        raise UsageError(f"--mean has {len(mean)} numbers; {weights.description} takes {found} channels")
    return len(mean) if mean else int(found)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _free_name(source: str | Path) -> Path:
    stem, number = re.sub(r"[^\w.-]+", "-", Path(source).name), 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _architecture(
    weights: Source, model: str | None, options: Mapping[str, Any] | None, say: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    """The name and the options of the network: as asked for, as the weights say, or else recognised, which is said."""
    from resight.models import guess

    name = model or weights.architecture
    known = dict(weights.options or {}) if name == weights.architecture else {}
    if name:
        return name, known | dict(options or {})
    found = guess(weights.state)
    if found is None:
        raise UsageError(f"{weights.description} fits no network of the family as it is", hint="name it with --model")
    recognised = found[0] + "".join(f" with {key}={value}" for key, value in found[1].items())
    say(f"note: recognised by their shapes as {recognised}; name it with --model where that is wrong")
    return found[0], found[1] | dict(options or {})


def _class_names(weights: Source, classes: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    if classes is None:
        if weights.classes:
            return _distinct(weights.classes, weights.description)
        raise UsageError(
            f"{weights.description} does not say which classes it knows",
            hint="make a Run that does: resight import WEIGHTS --classes FILE (one name a line, in the order of the "
            "outputs), or --classes DATA",
        )
    if not isinstance(classes, str | Path):
        return _distinct(classes, "the list of class names")
    path = Path(classes)
    if path.is_dir() or path.suffix == ".csv":
        from resight.samples import load

        return load(path, val_fraction=0, test_fraction=0, training=False).classes
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read class names from {printable(str(path))}: {error}") from error
    return _distinct([line for line in lines if line], printable(str(path)))


def _distinct(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names, or UsageError: with two classes of one name every answer would be ambiguous."""
    twice = sorted({printable(str(name)) for name in names if list(names).count(name) > 1})
    if twice:
        raise UsageError(f"{where} names these classes twice: {', '.join(twice[:5])}", hint="give them with --classes")
    return tuple(names)


def _geometry(
    weights: Source, cifar: bool, size: int | None, ratio: float | None, say: Callable[[str], None]
) -> Geometry:
    known = weights.geometry
    if known and size is None and ratio is None:
        return known
    if known is None and size is None:
        say(f"note: the weights do not say their image size; assuming {32 if cifar else 224} px (--image-size)")
    side = size if size is not None else known.size if known else 32 if cifar else 224
    if ratio is None:
        ratio = known.size / known.resize if known else 1.0 if cifar else 0.875
    wanted = Geometry(size=side, resize=max(side, round(side / ratio)), version=1)  # as torchvision answers
    return replace(known, size=wanted.size, resize=wanted.resize) if known else wanted


def _statistics(
    known_mean: tuple[float, ...] | None,
    known_std: tuple[float, ...] | None,
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    say: Callable[[str], None],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if mean and std:
        return tuple(mean), tuple(std)
    if known_mean and known_std:
        return known_mean, known_std
    if channels not in (1, 3):
        raise UsageError(
            f"the weights take {channels} channels and do not say how pictures were normalised",
            hint=f"--mean and --std, with {channels} numbers each",
        )
    say("note: the weights do not say their normalisation; assuming ImageNet's (--mean, --std)")
    if channels == 1:
        return (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
    return IMAGENET_MEAN, IMAGENET_STD


def _seal(run: Run, net: Any) -> None:
    """Exports, checks parity on generated pictures (there are no real ones here), seals."""
    import numpy as np

    from resight.exporting.seal import check_parity, parity_dict, write_model
    from resight.inference import Predictor

    answering = write_model(run, net, run.card.temperature)
    size = run.card.geometry.size
    shape = (_PARITY_PICTURES, size, size, run.card.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    parity = check_parity(answering, Predictor(run, backend="onnxruntime"), noise)
    run.update(parity=parity_dict(parity) | {"generated": True})
    run.seal()
