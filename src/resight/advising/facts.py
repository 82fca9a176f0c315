"""What the data are, as far as advice depends on it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resight import samples as data_sets
from resight.doctor import balance
from resight.images import printable
from resight.recipes import Facts
from resight.samples import SampleSet, check_files
from resight.training import machine, prepare
from resight.training.channels import channels_of

LOOKED_AT = 320
"""Pictures of the data set that are decoded for advice, at most; the measurements use them too."""
_EVERY_CLASS = 4


@dataclass(frozen=True)
class DataFacts:
    """counts: pictures by part. side: median of the shorter sides, pixels. sides: the 5th and 95th percentile of them.
    ratio: the largest class by the smallest, in train. channels: 1 grey, 3 RGB. warnings: what doctor's look at the
    classes calls an error or a warning. bad: (name, reason) of pictures looked at that cannot be read. listing: seconds
    to read the list of pictures as training does. check: seconds to decode one picture, all cores together.
    """

    path: str
    kind: str
    counts: dict[str, int]
    classes: int
    side: int
    sides: tuple[int, int]
    ratio: float
    channels: int
    warnings: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]
    listing: float
    check: float

    @property
    def small(self) -> bool:
        """Pictures that recipes take as they are (``Facts.small``); others are photos."""
        return Facts(self.counts["train"], self.classes, self.side).small

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"bad": [list(pair) for pair in self.bad], "sides": list(self.sides)}

    def sentences(self) -> list[str]:
        """The data in plain words, one line each."""
        parts = " / ".join(f"{self.counts[part]:,}" for part in ("train", "val", "test"))
        kind = "small pictures" if self.small else "photos"
        colour = "grey" if self.channels == 1 else "colour"
        low, high = self.sides
        side = f"{self.side} px" if low == high else f"about {self.side} px ({low} to {high})"
        lines = [
            f"{parts} pictures to train / validate / test, {self.classes} classes; {kind}, {colour}, "
            f"shorter side {side}; largest class {self.ratio:.1f} times the smallest"
        ]
        lines += [f"note: {warning}" for warning in self.warnings]
        if self.bad:
            shown = "; ".join(f"{printable(name)}: {reason}" for name, reason in self.bad[:3])
            lines.append(
                f"note: {len(self.bad)} of the pictures looked at cannot be read: training needs --skip-bad ({shown})"
            )
        return lines


def look(path: Path, samples: SampleSet, listing: float) -> tuple[DataFacts, np.ndarray]:
    """The facts, and width and height of the pictures looked at, int64 (n, 2).

    listing: seconds that ``samples.load`` took. Raises DataError when none of the pictures can be read.
    """
    begun = time.perf_counter()
    samples.fingerprint()
    channels = channels_of(samples)
    listing = 2 * (listing + time.perf_counter() - begun)  # training lists once to check, and once to go on from there
    chosen = some(samples)
    begun = time.perf_counter()
    report = check_files(chosen, threads=machine.available_cores())
    check = (time.perf_counter() - begun) / len(chosen)
    sizes = report.sizes if len(report.sizes) else prepare.some_sizes(chosen)
    short = sizes.min(axis=1)
    counts = samples.counts()
    train = counts["train"][counts["train"] > 0]
    found = [finding for finding in balance.findings(samples) if finding.severity != "note"]
    return DataFacts(
        path=str(path),
        kind=samples.kind,
        counts={part: int(count.sum()) for part, count in counts.items()},
        classes=len(samples.classes),
        side=int(np.median(short)),
        sides=(int(np.percentile(short, 5)), int(np.percentile(short, 95))),
        ratio=float(train.max() / train.min()),
        channels=channels,
        warnings=tuple(finding.title for finding in found),
        bad=tuple(report.bad),
        listing=listing,
        check=check,
    ), sizes


def some(samples: SampleSet, bad: frozenset[str] = frozenset()) -> SampleSet:
    """A small data set out of a large one, the same each time: some pictures of every class in train, the rest spread
    over the parts. ``bad``: names that are left out."""
    by_label: dict[int, int] = {}
    positions: set[int] = set()
    for position, sample in enumerate(samples.samples):
        if sample.split == "train" and by_label.get(sample.label, 0) < _EVERY_CLASS and len(positions) < LOOKED_AT // 2:
            by_label[sample.label] = by_label.get(sample.label, 0) + 1
            positions.add(position)
    for part, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        there = [position for position, sample in enumerate(samples.samples) if sample.split == part]
        count = min(len(there), int(share * LOOKED_AT))
        if count:
            positions.update(there[i] for i in np.linspace(0, len(there) - 1, count).astype(int))
    kept = [samples.samples[i] for i in sorted(positions)]
    slim = replace(samples, samples=tuple(sample for sample in kept if sample.name not in bad))
    slim._arrays.update(samples._arrays)
    return slim


def load(path: str | Path, config: Any) -> tuple[SampleSet, float]:
    """The data set as training splits it, and the seconds that this took."""
    begun = time.perf_counter()
    samples = data_sets.load(
        path, seed=config.seed, val_fraction=config.data.val_fraction, test_fraction=config.data.test_fraction
    )
    return samples, time.perf_counter() - begun
