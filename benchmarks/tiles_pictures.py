"""A composed set: one object of Fashion-MNIST, 2 % to 5 % of the side, in each large textured picture.

Functions of a seed. Training objects come from the training part of Fashion-MNIST, validation and test objects from its
test part; each part has textures of its own. ``NAME.csv`` beside the folder NAME says where the objects lie.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SIDE = 2000
SHARES = (0.02, 0.05)
CLASSES = {0: "shirt", 1: "trousers", 5: "sandal", 8: "bag", 9: "boot"}
TEXTURES = 12
"""Of each part; each picture takes a window of one, turned and mirrored at random, with fine noise of its own."""
_QUALITY = 85
Grey = NDArray[np.uint8]


def texture(random: np.random.Generator, side: int) -> Grey:
    """uint8 (side, side): noise at three scales, each enlarged smoothly, and in half of them waves across."""
    total = np.zeros((side, side), np.float32)
    for cells, weight in zip((8, 25, 80), random.uniform(0.4, 1.0, 3), strict=True):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells), dtype=np.uint8))
        total += weight * (np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32) - 127.5)
    if random.random() < 0.5:
        y, x = np.mgrid[:side, :side].astype(np.float32)
        angle, length = random.uniform(0, np.pi), random.uniform(40, 200)
        total += 40 * np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / length + total / 90)
    total *= random.uniform(10, 25) / total.std()
    found: Grey = np.clip(total + random.uniform(40, 110), 0, 255).astype(np.uint8)
    return found


def put(background: Grey, thing: Grey, left: int, top: int) -> None:
    """Blends an object, uint8 (s, s) bright on black, into a picture: opaque where it is bright, with soft edges."""
    mask = Image.fromarray(np.where(thing > 12, 255, 0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.2))
    alpha = np.asarray(mask, np.float32) / 255
    part = background[top : top + len(thing), left : left + len(thing)]
    part[:] = (part * (1 - alpha) + (20 + 0.9 * thing) * alpha + 0.5).astype(np.uint8)


def compose(random: np.random.Generator, textures: list[Grey], thing: Grey, side: int) -> tuple[Grey, tuple[int, ...]]:
    """One picture, uint8 (side, side), and the box of its object: left, top, right, bottom. thing: uint8 (28, 28)."""
    base = textures[random.integers(len(textures))]
    y, x = random.integers(0, len(base) - side + 1, 2)
    picture = np.rot90(base[y : y + side, x : x + side], random.integers(4))
    picture = picture[:, :: random.choice([-1, 1])].astype(np.int16)
    picture = picture + random.integers(-8, 9, picture.shape, dtype=np.int8)
    found = np.clip(picture, 0, 255).astype(np.uint8)
    size = round(side * random.uniform(*SHARES))
    shown = np.asarray(Image.fromarray(thing).resize((size, size), Image.Resampling.BICUBIC))
    left, top = (int(at) for at in random.integers(0, side - size + 1, 2))
    put(found, shown, left, top)
    return found, (left, top, left + size, top + size)


def make(root: Path, fashion: Path, counts: dict[str, int], seed: int, side: int = SIDE) -> Path:
    """Split folders ``root/PART/CLASS/NNN.jpg`` and ``root/boxes.csv``; ``counts``: pictures of each class by part."""
    with open(root.parent / f"{root.name}.csv.tmp", "w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(("file", "left", "top", "right", "bottom"))
        for number, (part, each) in enumerate(counts.items()):
            random = np.random.default_rng([seed, number])
            textures = [texture(random, side + side // 4) for _ in range(TEXTURES)]
            things, labels = objects(fashion, "train" if part == "train" else "t10k")
            half = slice(None) if part == "train" else slice(0, None, 2) if part == "val" else slice(1, None, 2)
            things, labels = things[half], labels[half]
            for label, name in CLASSES.items():
                folder = root / part / name
                folder.mkdir(parents=True)
                for place, thing in enumerate(random.choice(things[labels == label], each, replace=False)):
                    picture, box = compose(random, textures, thing, side)
                    file = folder / f"{place:03d}.jpg"
                    Image.fromarray(picture).save(file, quality=_QUALITY)
                    rows.writerow((file.relative_to(root).as_posix(), *box))
    return (root.parent / f"{root.name}.csv.tmp").rename(root.parent / f"{root.name}.csv")


def objects(fashion: Path, part: str) -> tuple[Grey, NDArray[np.uint8]]:
    """uint8 (N, 28, 28) and labels (N,) of Fashion-MNIST's idx files."""
    images = np.fromfile(fashion / f"{part}-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 28, 28)
    return images, np.fromfile(fashion / f"{part}-labels-idx1-ubyte", np.uint8)[8:]


def boxes(file: Path) -> dict[str, tuple[int, int, int, int]]:
    """Of ``make``'s table: left, top, right, bottom by file, relative to the data set."""
    with open(file, newline="", encoding="utf-8") as stream:
        found = {row.pop("file"): row for row in csv.DictReader(stream)}
    return {name: tuple(int(row[key]) for key in ("left", "top", "right", "bottom")) for name, row in found.items()}
