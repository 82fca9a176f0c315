"""What `resight doctor` finds of defects planted into a real data set, what else it says, its time and its memory.

    python benchmarks/doctor.py --photos FOLDER [--many FOLDER] [--seeds 100 101 102]

photos: the set `clothing` (train and val, 1,341 photos). Into a copy of it each seed plants 20 duplicates across
splits (a quarter each resized, recompressed, brightened, cropped by 2.5 % a side; each with at least a new JPEG
compression, as whoever does that to a picture gets), 10 copies under another label, 5 broken files (cut off, empty, a web
page, noise, zeros), 5 PNG or WebP files named .jpg, 3 blank pictures (white, black, grey with slight noise), and takes
one class out of val. Counted for each kind: how many of the planted are found, and how many other pictures are named
that are not named of the untouched set. What is named of the untouched set was looked at, see the notes.

many: 60,000 pictures of CIFAR-10 as JPEG files (train and test): seconds and peak memory (VmHWM) of the whole command,
in a process of its own. Thresholds were chosen on seeds 0 to 4 and on the untouched set; the result is of seeds 100 to 102.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from common import ROOT, machine, save

KINDS = ("resized", "recompressed", "brightened", "cropped", "conflict", "broken", "misnamed", "blank", "missing class")


def changed(picture: Image.Image, how: str, dice: random.Random) -> bytes:
    """The picture as a JPEG after one change; the amount is drawn."""
    quality = dice.randint(80, 95)
    if how == "resized":
        factor = dice.choice([0.4, 0.5, 0.75, 1.5])
        picture = picture.resize((round(picture.width * factor), round(picture.height * factor)))
    elif how == "recompressed":
        quality = dice.randint(20, 60)
    elif how == "brightened":
        picture = ImageEnhance.Brightness(picture).enhance(dice.uniform(1.15, 1.4))
    elif how == "cropped":
        dx, dy = round(0.025 * picture.width), round(0.025 * picture.height)
        picture = picture.crop((dx, dy, picture.width - dx, picture.height - dy))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def plant(root: Path, seed: int) -> dict[str, list[tuple[str, ...]]]:
    """Changes the copy of clothing at ``root``; returns what was planted by kind, as names relative to ``root``."""
    dice = random.Random(seed)
    classes = sorted(folder.name for folder in (root / "train").iterdir())
    gone = dice.choice(classes)
    shutil.rmtree(root / "val" / gone)
    planted: dict[str, list[tuple[str, ...]]] = {kind: [] for kind in KINDS}
    planted["missing class"].append((gone,))
    there = [name for name in classes if name != gone]
    train = sorted(path.relative_to(root) for name in there for path in (root / "train" / name).iterdir())
    sources = dice.sample(train, 45)

    def write(name: str, data: bytes) -> str:
        (root / name).write_bytes(data)
        return name

    for number in range(20):
        how, source = KINDS[number // 5], sources.pop()
        data = changed(Image.open(root / source).convert("RGB"), how, dice)
        name = write(f"val/{source.parts[1]}/p{dice.getrandbits(64):016x}.jpg", data)
        planted[how].append((source.as_posix(), name))
    for number in range(10):
        source = sources.pop()
        other = dice.choice([name for name in there if name != source.parts[1]])
        picture, how = Image.open(root / source).convert("RGB"), (None, *KINDS[:4])[number % 5]
        data = changed(picture, how, dice) if how else (root / source).read_bytes()
        name = write(f"train/{other}/p{dice.getrandbits(64):016x}.jpg", data)
        planted["conflict"].append((source.as_posix(), name))
    for number in range(5):
        source = sources.pop()
        data = (root / source).read_bytes()
        broken = (data[: len(data) // 2], b"", b"<html><body>404</body></html>", dice.randbytes(9000), bytes(9000))
        planted["broken"].append((write(source.as_posix(), broken[number]),))
    for number in range(5):
        source, stream = sources.pop(), io.BytesIO()
        Image.open(root / source).convert("RGB").save(stream, ("PNG", "WEBP")[number % 2])
        planted["misnamed"].append((write(source.as_posix(), stream.getvalue()),))
    for number in range(3):
        source, stream = sources.pop(), io.BytesIO()
        noise = np.random.default_rng(seed).normal(128, 1.5, (400, 533, 3)).clip(0, 255).astype(np.uint8)
        picture = (Image.new("RGB", (533, 400), "white"), Image.new("RGB", (533, 400)), Image.fromarray(noise))[number]
        picture.save(stream, "JPEG", quality=90)
        planted["blank"].append((write(source.as_posix(), stream.getvalue()),))
    return planted
