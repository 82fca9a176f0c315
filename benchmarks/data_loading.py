"""P7: from JPEG files to training batches, against torchvision's ImageFolder and DataLoader with two workers.

    python benchmarks/data_loading.py [--photos FOLDER] [--rounds 5] [--pictures 1000] [--large 200]

Both sides read the same files and make the same kind of batch: 64 pictures of uint8 (3, 224, 224), a random crop
of 35–100 % of the area each (aspect 3/4 to 4/3), mirrored half of the time; decoding by two workers, processes there,
threads here. What follows, normalisation, is the same for both and not timed. Start-up is not timed either, and the
peer is timed in its second epoch, when its workers run and the files are in memory; ours in its first and its third.
Before that, outputs are compared, through the reader that is timed: squares for evaluation, and crops at equal places.

Large photos are measured twice: as training reads them (geometry version 2, JPEGs decoded at a part of their size), and
decoded in full as the peer does (version 1, equal work).

FOLDER: photos (JPEG, anywhere below it) of about 500 × 375; without it, pictures are generated. The large ones, of 3
megapixels, are made from the same, enlarged by Pillow, quality 90.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BATCH, SIZE, WORKERS, CLASSES = 64, 224, 2, 5
SCALE = (0.35, 1.0)
LARGE = (2000, 1500)
SQUARES = {1: 0.0, 2: 0.5}
CROPS = {"small": 0.25, "large": 3.0}
"""How far apart from full decoding they may be, in mean levels of 255: squares by geometry version, crops by pictures.
Large pictures are kept smaller, so their crops are resized twice, and their edges are those of smaller pixels."""


# ── pictures ───────────────────────────────────────────────────────────────────────────────────────────────────


def photos(folder: Path | None, count: int = 250) -> list[bytes]:
    """JPEG files of about 500 × 375 pixels: those in the folder, or generated ones (smooth shapes and fine grain)."""
    if folder is not None:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        found = [path.read_bytes() for path in files]
        return [data for data in found if 150_000 < np.prod(Image.open(io.BytesIO(data)).size) < 260_000]
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
        grain = random.normal(0, 8, smooth.shape)
        made.append(encoded(Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))))
    return made


def encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def enlarged(data: bytes) -> bytes:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    size = LARGE if picture.width >= picture.height else LARGE[::-1]
    return encoded(picture.resize(size, Image.Resampling.BICUBIC))


def write(root: Path, files: list[bytes], count: int) -> Path:
    """``count`` files in class folders, the given ones again and again."""
    for number, data in enumerate(islice(cycle(files), count)):
        path = root / f"class-{number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


# ── the sides ──────────────────────────────────────────────────────────────────────────────────────────────────


def run_peer(root: Path) -> dict[str, float]:
    """torchvision, as its documentation puts it together. Imports nothing of Resight."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    crop = transforms.RandomResizedCrop(SIZE, scale=SCALE)
    data = ImageFolder(root, transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.PILToTensor()]))
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True)
    rates = []
    for _ in range(2):
        start = time.perf_counter()
        for pixels, _labels in loader:
            assert pixels.shape == (BATCH, 3, SIZE, SIZE)
        rates.append(len(loader) * BATCH / (time.perf_counter() - start))
    return {"first": rates[1], "later": rates[1]}


def configuration(**changes: Any) -> Any:
    from resight.recipes import TrainConfig, override

    fixed = {"data.image_size": SIZE, "data.train_size": SIZE, "data.channels": 3, "data.workers": WORKERS}
    fixed |= {"augment.scale_min": SCALE[0], "augment.scale_max": SCALE[1], "batch": BATCH, "data.disk_cache_gb": 0}
    return override(TrainConfig(), fixed | changes)


def run_ours(root: Path, version: int) -> dict[str, float]:
    """The loader as the training uses it, with augmentation applied to each batch."""
    from resight import samples as data_sets
    from resight.training import machine, reading
    from resight.training.augment import apply
    from resight.training.loader import TrainLoader

    config = configuration(**{"data.geometry_version": version})
    machine.set_threads(WORKERS)
    machine.keep_memory()
    samples = data_sets.load(root, val_fraction=0.01, test_fraction=0.01)
    loader = TrainLoader(reading.train_pictures(samples, config), config)
    steps, rates = loader.steps_per_epoch, []
    for epoch in range(3):
        start = time.perf_counter()
        for batch in loader.batches(epoch * steps, (epoch + 1) * steps):
            assert apply(config.augment, batch.pixels, batch.parameters).shape == (BATCH, 3, SIZE, SIZE)
        rates.append(steps * BATCH / (time.perf_counter() - start))
    return {"first": rates[0], "later": rates[2]}


# ── equal outputs ──────────────────────────────────────────────────────────────────────────────────────────────


def compare(root: Path, most: float) -> dict[int, str]:
    """How far the timed pixels of both sides are apart, in words, by geometry version; stops beyond ``SQUARES`` and
    ``most``, for crops.

    Ours are what the training's own reader keeps of the files in ``root``, and its crops of that. Theirs are equal
    crops, at the same places, of the fully decoded pictures by ``RandomResizedCrop``'s own function.
    """
    from torchvision.transforms import functional as F
    from torchvision.transforms import v2

    from resight import samples as data_sets
    from resight.training import reading
    from resight.training.augment import crop_resized, draw, random_box

    random = np.random.default_rng(0)
    reference = v2.Compose([v2.Resize(256), v2.CenterCrop(SIZE)])
    samples = data_sets.load(root, val_fraction=0.01, test_fraction=0.01)
    said = {}
    for version in (1, 2):
        changes = {"data.geometry_version": version}
        config = configuration(**changes)
        training = reading.train_pictures(samples, config)
        answering = reading.eval_pictures(samples, "train", configuration(**changes, **{"data.crop_ratio": SIZE / 256}))
        squares, crops = [], []
        for index in range(0, len(training), max(1, len(training) // 50)):
            picture = Image.open(samples.path(training.samples[index])).convert("RGB")
            theirs = np.asarray(reference(picture)).astype(int)
            squares.append(np.abs(answering[index] - theirs).mean())
            u = random.random(4)
            left, top, right, bottom = map(round, random_box(picture.height, picture.width, u, config.augment))
            crop = F.resized_crop(picture, top, left, bottom - top, right - left, [SIZE, SIZE])
            parameters = replace(draw(config.augment, 0, 0, np.arange(1)), crop=u[None], flip=np.zeros(1, bool))
            ours = crop_resized([training[index]], parameters, config.augment, SIZE, False)[0].permute(1, 2, 0).numpy()
            crops.append(np.abs(ours.astype(int) - np.asarray(crop)).mean())
        for what, found, limit in (("squares", squares, SQUARES[version]), ("crops", crops, most)):
            if np.mean(found) > limit:
                sys.exit(
                    f"geometry version {version}: {what} differ by {np.mean(found):.2f} levels on average, more than "
                    f"{limit}: the sides do not do the same"
                )
        said[version] = (
            f"mean absolute difference in levels of 255 to full decoding by torchvision: evaluation squares "
            f"{np.mean(squares):.2f} (at most {SQUARES[version]}), the timed path's crops at equal places "
            f"{np.mean(crops):.2f} (at most {most})"
        )
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--large", type=int, default=200)
    parser.add_argument(
        "--side", choices=("ours", "full", "peer"), help="run one side once (used by the program itself)"
    )
    parser.add_argument("--root", type=Path, help="its pictures")
    args = parser.parse_args()
    if args.side:
        versions = {"ours": 2, "full": 1}
        print(json.dumps(run_peer(args.root) if args.side == "peer" else run_ours(args.root, versions[args.side])))
        return
    from common import PEERS, interleave, row, save

    peers = PEERS if PEERS.exists() else sys.executable
    small = photos(args.photos)
    large = [enlarged(data) for data in small[: min(args.large, 100)]]
    folder = Path(tempfile.mkdtemp(prefix="resight-bench-"))
    try:
        rounds, equal = {}, {}
        roots = {
            "small": write(folder / "small", small, args.pictures),
            "large": write(folder / "large", large, args.large),
        }
        for name, root in roots.items():
            equal[name] = compare(root, CROPS[name])
        for name, root in roots.items():
            command = [__file__, "--root", str(root), "--side"]
            names = ("ours", "peer") if name == "small" else ("ours", "full", "peer")
            rounds[name] = interleave({s: [*command, s] for s in names}, args.rounds, pythons={"peer": peers})
    finally:
        shutil.rmtree(folder)
    rows = [
        row(
            case,
            ("Resight", [r[when] for r in rounds[name][side]]),
            ("torchvision", [r[when] for r in rounds[name]["peer"]]),
            unit="pictures/s",
            target=target,
            equal=equal[name][1 if side == "full" else 2],
        )
        for case, name, side, when, target in (
            ("500 × 375, first epoch", "small", "ours", "first", 1.5),
            ("2000 × 1500 (3 MP), first epoch", "large", "ours", "first", 3.0),
            ("2000 × 1500 (3 MP), first epoch, decoded in full", "large", "full", "first", None),
            ("500 × 375, from the second epoch", "small", "ours", "later", 15.0),
            ("2000 × 1500 (3 MP), from the second epoch", "large", "ours", "later", 15.0),
        )
    ]
    notes = [
        f"{WORKERS} workers; batches of {BATCH}, {SIZE} px; crops of {SCALE[0]:.0%} to {SCALE[1]:.0%}, mirroring",
        f"{args.pictures} files of about 500 × 375, {args.large} of {LARGE[0]} × {LARGE[1]}, "
        + ("photos" if args.photos else "generated"),
        "from the second epoch on pictures come from memory; the peer keeps nothing",
    ]
    save(
        "P7-data-loading",
        title="From JPEG files to training batches",
        target="P7",
        command="python benchmarks/data_loading.py --photos FOLDER",
        rows=rows,
        notes=notes,
    )


if __name__ == "__main__":
    main()
