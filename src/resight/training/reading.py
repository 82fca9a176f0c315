"""How a configuration has pictures read: of each part, at which size, through which caches."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from resight.images import Geometry, decoder_versions
from resight.recipes import TrainConfig
from resight.recipes.tiles import TILES, tile_geometry
from resight.runs.storage import cache_directory
from resight.samples import Sample, SampleSet
from resight.training.augment import to_short
from resight.training.loader import Disk, Pictures
from resight.training.machine import available_cores
from resight.training.picture_cache import KIND, PictureCache

ARRAYS = ("idx", "cifar")  # kinds of data sets that are array files: decoded already
_MEASURED = 2000  # pictures that the mean and deviation are measured on


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
