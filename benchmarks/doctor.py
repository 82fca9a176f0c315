"""What `resight doctor` finds of defects planted into a real data set, what else it says, its time and its memory.

    python benchmarks/doctor.py --photos FOLDER [--many FOLDER] [--seeds 100 101 102]

photos: the set `clothing` (train and val, 1,341 photos). Into a copy of it each seed plants 20 duplicates across
splits (a quarter each resized, recompressed, brightened, cropped by 2.5 % a side; each with a new JPEG compression, as
whoever does that to a picture gets), 10 copies under another label, 5 broken files (cut off, empty, a web page, noise,
zeros), 5 PNG or WebP files named .jpg, 3 blank pictures (white, black, grey with slight noise), and takes one class out
of val. Counted for each kind: how many of the planted are found, and how many other pictures are named
that are not named of the untouched set. What is named of the untouched set was looked at, see the notes.

many: 60,000 pictures of CIFAR-10 as JPEG files (train and test): seconds and peak memory (VmHWM) of the whole command,
in a process of its own. Thresholds were chosen on seeds 0 to 2 and on the untouched set; the result is of seeds 100 to
102.
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

from common import lost_row, row, save, summary

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


FOUND_BY = {
    **dict.fromkeys(KINDS[:4], ("duplicates-across-splits", "near-duplicates-across-splits")),
    "conflict": ("conflicting-labels",),
    "broken": ("unreadable",),
    "misnamed": ("misnamed",),
    "blank": ("blank",),
}


def named(report: dict) -> dict[str, list[frozenset[str]]]:
    """Kind → the groups of names in its items."""
    return {
        finding["kind"]: [frozenset(p["source"] for p in item["pictures"]) for item in finding["items"]]
        for finding in report["findings"]
    }


def judge(
    report: dict, planted: dict[str, list[tuple[str, ...]]], known: set[str]
) -> dict[str, tuple[int, int, list[str]]]:
    """Kind → found, planted, and names of other pictures that are not ``known`` from the untouched set."""
    groups, outcome = named(report), {}
    for kind, finders in FOUND_BY.items():
        there = [group for finder in finders for group in groups.get(finder, [])]
        hits = sum(any(group >= set(names) for group in there) for names in planted[kind])
        outcome[kind] = (hits, len(planted[kind]), [])
    texts = [t for f in report["findings"] if f["kind"] == "missing-class" for t in f["texts"]]
    gone = planted["missing class"][0][0]
    outcome["missing class"] = (int(f"{gone}: none in val" in texts), 1, [t for t in texts if not t.startswith(gone)])
    ours = {name for names in planted.values() for group in names for name in group}
    for kind, there in groups.items():
        strange = sorted({name for group in there for name in group} - ours - known)
        outcome.setdefault(f"others: {kind}", (0, 0, strange))
    return outcome


def examined(data: Path, *options: str) -> tuple[dict, float, int]:
    """The report of `resight doctor DATA --json`, its seconds and its peak memory in bytes."""
    code = (
        "import sys\nfrom resight.cli import main\ntry:\n    main()\nfinally:\n"
        "    sys.stderr.write(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')))\n"
    )
    start = time.perf_counter()
    command = [sys.executable, "-c", code, "doctor", str(data), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    return json.loads(done.stdout), seconds, 1024 * int(done.stderr.split("VmHWM:")[1].split()[0])


def checked(data: Path) -> tuple[float, int]:
    """Seconds and peak memory of the check that every training makes, in a process of its own."""
    code = (
        "import sys\nfrom resight.samples import load, check_files\n"
        "check_files(load(sys.argv[1], training=False), threads=2)\n"
        "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')))\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, str(data)], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, 1024 * int(done.stdout.split("VmHWM:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--many", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    options = parser.parse_args()
    rows = found_rows(options.photos, options.seeds)
    if options.many:
        rows += cost_rows(options.many)
    save(
        "doctor",
        title="What doctor finds, and what it costs",
        target="",
        command="python benchmarks/doctor.py --photos clothing --many cifar10-jpeg",
        rows=rows,
        notes=NOTES,
    )


def found_rows(photos: Path, seeds: list[int]) -> list[dict]:
    """Planted and found by kind, and false alarms."""
    untouched, _, _ = examined(photos)
    known = {name for groups in named(untouched).values() for group in groups for name in group}
    outcomes, shares = [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "clothing"
            shutil.copytree(photos, root)
            planted = plant(root, seed)
            report, _, _ = examined(root)
        outcome = judge(report, planted, known)
        outcomes.append(outcome)
        strange = {kind: names for kind, (_, _, names) in outcome.items() if names}
        missed = {kind: f"{found} of {count}" for kind, (found, count, _) in outcome.items() if found < count}
        print(f"seed {seed}: missed {missed}, named besides {strange}", file=sys.stderr)
        ours = {name for names in planted.values() for group in names for name in group}
        others = report["pictures"] - len(ours)
        shares.append(100 * len({name for names in strange.values() for name in names}) / others)
    rows = []
    for kind in KINDS:
        values = [[float(outcome[kind][side]) for outcome in outcomes] for side in (0, 1)]
        rows.append(
            row(kind, ("found", values[0]), ("planted", values[1]), unit="", target=0.95, equal="", more_is_better=True)
        )
    lost = summary(shares) | {"n": others}
    rows.append(lost_row("named besides, % of the other pictures", lost=lost, unit="%", target=1, equal=""))
    return rows


def cost_rows(many: Path) -> list[dict]:
    """Time and memory, beside the check that a training makes in any case."""
    report, seconds, peak = examined(many)
    plain, least = checked(many)
    twins = sum(
        p["split"] == "test"
        for f in report["findings"]
        if f["kind"].endswith("duplicates-across-splits")
        for item in f["items"]
        for p in item["pictures"]
    )
    counts = {f["kind"]: f["count"] for f in report["findings"]}
    print(f"{counts}, {twins} test pictures with a twin in train", file=sys.stderr)
    count, theirs = f"{report['pictures']:,} pictures", "the check before training"
    return [
        row(f"{count}, time", ("doctor", [seconds]), (theirs, [plain]), unit="s", target=None, equal="",
            more_is_better=False),
        row(f"{count}, peak memory", ("doctor", [peak / 2**20]), (theirs, [least / 2**20]), unit="MiB", target=None,
            equal="", more_is_better=False),
    ]  # fmt: skip


NOTES = [
    "Developed on seeds 0 to 2, where one of 90 copies was missed: a light dress brightened until half of it "
    "was clipped to white.",
    "The untouched set was looked at: doctor names one pair of it, the same photo as shorts and as skirt, "
    "which is real. Of the 24 next closest pairs one shows the same skirt photographed twice (gradients "
    "correlate by 0.845), the others different clothes before the same background (up to 0.893); none of these "
    "is named.",
    "`named besides` counts pictures that any finding with pictures names, that were not planted and that are "
    "not named of the untouched set; notes count too. Classes too small to evaluate name no pictures.",
    "CIFAR-10: 236 groups across train and test with 266 test pictures (2.7 %; Barz and Denzler 2020 marked "
    "3.3 % by hand, with a looser rule), 541 within a part, none under two labels. Of 539 such pairs across "
    "the parts, 96 drawn at random were looked at: all show the same picture, some recoloured or retouched; "
    "about a third are one much repeated photo of a white car.",
    "Time and memory are of one run on a quiet machine with two threads. What doctor adds to every training, "
    "hashes of files and counting, takes 0.1 to 0.2 s for 10,000 pictures (n = 2, photos and CIFAR-10).",
]


if __name__ == "__main__":
    main()
