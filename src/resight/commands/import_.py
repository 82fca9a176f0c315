"""``resight import``: a Run from weights that were trained elsewhere."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.commands.extras import need
from resight.errors import UsageError
from resight.images import Geometry, printable
from resight.runs import CARD, Architecture, Run, RunCard

if TYPE_CHECKING:
    from resight.models import Source

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PARITY_PICTURES = 16


def _stderr(text: str) -> None:
    sys.stderr.write(text + "\n")


def import_weights(
    source: str | Path,
    *,
    model: str | None = None,
    classes: str | Path | Sequence[str] | None = None,
    image_size: int | None = None,
    crop_ratio: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    out: str | Path | None = None,
    say: Callable[[str], None] = _stderr,
) -> Run:
    """Makes a sealed Run of a tag (``resnet50.tv2_in1k``), a weights file or another Run.

    classes: names in the order of the outputs: a list, a text file with one a line, or a data set whose classes
    they are; needed where the weights bring none. image_size, crop_ratio, mean, std: where the weights do not say:
    32 px for the CIFAR type, else 224 px with crop ratio 0.875, and ImageNet's statistics; assumptions are said.
    The Run is not calibrated (temperature 1), and has no metrics until it is evaluated.

    Raises UsageError, WeightsError, DownloadError.
    """
    need("importing weights", "train", "torch", "pydantic", "onnxscript")
    from resight.models import create, guess, load_weights, parameter_count, read_weights
    from resight.training import machine

    weights = read_weights(source, model)
    name, options = _architecture(weights, model, guess)
    names = _class_names(weights, classes)
    channels = len(mean) if mean else len(weights.mean or IMAGENET_MEAN)
    net = create(name, num_classes=len(names), in_channels=channels, **options)
    loaded = load_weights(net, weights)
    if loaded.report.replaced_head:
        raise UsageError(
            f"{len(names)} class names were given, but the weights answer with "
            f"{loaded.report.head_from or 'no'} classes",
            hint="give one name for each output, in their order: --classes FILE",
        )
    for note in loaded.report.notes:
        say(f"note: {note}")
    geometry = _geometry(weights, net.spec.stem == "cifar", image_size, crop_ratio, say)
    mean, std = _statistics(weights, mean, std, say)
    card = RunCard(
        architecture=Architecture(name, dict(options), parameter_count(net)),
        classes=names,
        channels=channels,
        geometry=geometry,
        mean=mean,
        std=std,
        environment=machine.environment(),
        source=weights.description,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    run = Run.create(Path(out) if out else _free_name(source), card)
    _seal(run, net)
    say(f"{run.path}: {name}, {len(names)} classes, {geometry.size} px, from {weights.description}")
    return run


def cached_import(source: str) -> Run:
    """The Run of these weights from the cache, imported there at the first use.

    The cache is ``$RESIGHT_CACHE/runs`` or ``~/.cache/resight/runs``. A file is known by its content.
    """
    from resight.models.download import cache_directory

    path = Path(source)
    digest = f"-{_digest(path)}" if path.is_file() else ""
    place = cache_directory("runs") / (re.sub(r"[^\w.-]+", "-", path.name) + digest)
    if (place / CARD).exists():
        run = Run.open(place, sealed=False)
        if run.card.status == "sealed":
            return run
        raise UsageError(f"an import into {place} was cut short", hint=f"remove that directory: {place}")
    return import_weights(source, out=place)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _free_name(source: str | Path) -> Path:
    stem, number = re.sub(r"[^\w.-]+", "-", Path(source).name), 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _architecture(
    weights: Source, model: str | None, guess: Callable[..., tuple[str, dict[str, str]] | None]
) -> tuple[str, dict[str, Any]]:
    if model:
        return model, {}
    if weights.architecture:
        return weights.architecture, dict(weights.options or {})
    found = guess(weights.state)
    if found is None:
        raise UsageError(f"{weights.description} fits no network of the family as it is", hint="name it with --model")
    return found


def _class_names(weights: Source, classes: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    if classes is None:
        if weights.classes:
            return tuple(weights.classes)
        raise UsageError(
            f"{weights.description} does not say which classes it knows",
            hint="make a Run that does: resight import WEIGHTS --classes FILE (one name a line, in the order of the "
            "outputs), or --classes DATA",
        )
    if not isinstance(classes, str | Path):
        return tuple(classes)
    path = Path(classes)
    if path.is_dir() or path.suffix == ".csv":
        from resight.samples import load

        return load(path, val_fraction=0, test_fraction=0).classes
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read class names from {printable(str(path))}: {error}") from error
    names = tuple(line for line in lines if line)
    if len(set(names)) < len(names):
        raise UsageError(f"{printable(str(path))} names a class twice")
    return names


def _geometry(
    weights: Source, cifar: bool, size: int | None, ratio: float | None, say: Callable[[str], None]
) -> Geometry:
    known = weights.geometry
    if known and size is None and ratio is None:
        return known
    if known is None and size is None:
        say(f"note: the weights do not say their image size; assuming {32 if cifar else 224} px (--image-size)")
    side = size or (known.size if known else 32 if cifar else 224)
    ratio = ratio or (known.size / known.resize if known else 1.0 if cifar else 0.875)
    wanted = Geometry(size=side, resize=max(side, round(side / ratio)))
    return replace(known, size=wanted.size, resize=wanted.resize) if known else wanted


def _statistics(
    weights: Source,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    say: Callable[[str], None],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if (mean is None) != (std is None) or (mean and std and len(mean) != len(std)):
        raise UsageError("--mean and --std belong together, with one number a channel each")
    if mean and std:
        return tuple(mean), tuple(std)
    if weights.mean and weights.std:
        return weights.mean, weights.std
    say("note: the weights do not say their normalisation; assuming ImageNet's (--mean, --std)")
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
    parity = check_parity(answering, Predictor(run), noise)
    run.update(parity=parity_dict(parity) | {"generated": True})
    run.seal()
