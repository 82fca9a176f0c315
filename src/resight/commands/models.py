"""``resight models``: the family in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from resight.commands.extras import need


@dataclass(frozen=True)
class ModelRow:
    """One network: parameters with 1000 classes (ImageNet type) or 10 (CIFAR type), multiply-accumulates for one
    picture of ``image_size``, and the tags of weights that can be had by name."""

    name: str
    parameters: int
    macs: int
    image_size: int
    weights: tuple[str, ...]


def models(pattern: str = "*", *, plain: bool = False) -> Iterator[ModelRow]:
    """The members of the family whose names match ``pattern``; with ``plain`` also those without shortcuts."""
    need("listing models", "train", "torch")
    import torch

    from resight.models import ARCHITECTURES, count_macs, create, known_tags, parameter_count

    for name, spec in ARCHITECTURES.items():
        if not fnmatchcase(name, pattern) or (spec.shortcut == "none" and not plain):
            continue
        cifar = spec.stem == "cifar"
        size = 32 if cifar else 224
        with torch.device("meta"):
            net = create(name, num_classes=10 if cifar else 1000)
        yield ModelRow(name, parameter_count(net), count_macs(net, size), size, tuple(known_tags(name)))


def table(rows: Iterable[ModelRow]) -> Iterator[str]:
    """Lines for a terminal."""
    yield f"{'model':<24}{'parameters':>12}{'MACs':>10}{'  at px':>7}   weights"
    for row in rows:
        yield (
            f"{row.name:<24}{row.parameters / 1e6:>10.2f} M{row.macs / 1e9:>8.2f} G{row.image_size:>7}   "
            f"{', '.join(row.weights) or '–'}"
        )
