"""Networks and picture sizes that come into question, and how published results order them.

Nothing here predicts an accuracy. ``points`` only order candidates, on the scale of ImageNet's or CIFAR-10's top-1
accuracy in percent, and hold between networks trained alike:

- depth, photos: torchvision's ``IMAGENET1K_V1``, 224 px. He et al. 2015, table 4, has the same order.
- depth, small pictures: He et al. 2015, table 6, on CIFAR-10; ResNet-18 with the stem for small pictures: DeVries and
  Taylor 2017, table 1.
- resolution: 5 points for each doubling. Between 64 and 224 px one doubling is worth more than the step from 18 to 34
  layers (3.5) or from 34 to 50 (2.8); Touvron et al. 2019 (FixRes) and Bello et al. 2021 measured how much resolution
  brings. The number is ours, and only its order of size matters.
- pictures few: from scratch, depth counts less with fewer pictures, and nothing below 2,000: He et al. 2019 (Rethinking
  ImageNet pre-training, §5) and Brigato and Iocchi 2020 saw larger networks gain nothing there.
- weights: photos that start from ImageNet weights come before photos that do not (Kornblith et al. 2019), whatever the
  network; and among them better ImageNet networks are better (their figure 1, r = 0.96).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from resight.advising.facts import DataFacts

PHOTO_DEPTH = {"resnet18": 69.76, "resnet34": 73.31, "resnet50": 76.13, "resnet101": 77.37}
SMALL_DEPTH = {
    "resnet20": 91.25,
    "resnet32": 92.49,
    "resnet44": 92.83,
    "resnet56": 93.03,
    "resnet110": 93.39,
    "resnet18": 95.28,
}
PHOTO_SIZES = (64, 96, 128, 160, 224)
TAGS = {"resnet18": "tv_in1k", "resnet34": "tv_in1k", "resnet50": "tv2_in1k", "resnet101": "tv2_in1k"}
DOUBLING = 5.0
WEIGHTS = 30.0
"""Points for weights from ImageNet: more than depth and size together can make up for."""
LONG = 2 * 3600
"""Seconds of a budget from which on the deepest networks are candidates."""
_DEEPEST = ("resnet101", "resnet110")


@dataclass(frozen=True)
class Candidate:
    """A network, the side of its pictures in pixels, and the weights to start from. points: see above. download: bytes
    that would have to be fetched first, about; 0 where nothing is."""

    model: str
    image_size: int
    weights: str | None = None
    points: float = 0.0
    download: int = 0

    @property
    def title(self) -> str:
        return f"{self.model} at {self.image_size} px, {'from ' + self.weights if self.weights else 'from scratch'}"

    def wishes(self) -> dict[str, Any]:
        """What it asks of a configuration, by dotted name."""
        asked: dict[str, Any] = {"model.name": self.model, "data.image_size": self.image_size}
        return asked | ({"model.weights": self.weights} if self.weights else {})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def depth_points(model: str, facts: DataFacts, pretrained: bool) -> float:
    """The published accuracy, its distance to the smallest network's shrunk where pictures are few."""
    table = SMALL_DEPTH if facts.small else PHOTO_DEPTH
    least = min(table.values())
    if model not in table:
        return least
    share = 1.0 if pretrained else min(1.0, max(0.0, math.log10(facts.counts["train"] / 2000) / math.log10(25)))
    return least + share * (table[model] - least)


def points(model: str, size: int, facts: DataFacts, pretrained: bool) -> float:
    """What candidates are ordered by. Pixels that the pictures do not have bring nothing."""
    full = 32 if facts.small else 224
    seen = min(size, max(28, facts.side))
    return depth_points(model, facts, pretrained) - DOUBLING * math.log2(full / seen) + (WEIGHTS if pretrained else 0)


def sizes_for(facts: DataFacts, own: int | None) -> tuple[int, ...]:
    """Sides in pixels: of small pictures their own, of photos the usual ones that are not much more than they have.

    ``own``: what weights were trained at; it is among them.
    """
    if facts.small:
        found = {max(28, facts.side)}
    else:
        found = {size for size in PHOTO_SIZES if size <= 1.15 * facts.side} or {PHOTO_SIZES[0]}
    return tuple(sorted(found | ({own} if own else set())))


def models_for(facts: DataFacts, budget: float | None) -> tuple[str, ...]:
    """Names of networks, the deepest only where there is much time."""
    names = SMALL_DEPTH if facts.small else PHOTO_DEPTH
    return tuple(name for name in names if name not in _DEEPEST or (budget or 0) >= LONG)
