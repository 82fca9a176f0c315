"""The ResNet family: plain ``nn.Module``s with torchvision's names and keys.

Every architecture is also a function of this module: ``resight.models.resnet50(weights="tv2_in1k")`` is
``create("resnet50", weights="tv2_in1k")``. They are made from the table ``ARCHITECTURES`` when asked for.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Protocol

from resight.models.complexity import count_macs, parameter_count
from resight.models.files import read_state_dict
from resight.models.from_run import network_of
from resight.models.hub import PretrainedWeights, fetch, known_tags, parse_tag, resolve
from resight.models.keys import LoadReport, guess, guess_architecture, load_into, translate
from resight.models.resnet import ResNet, ResNetSpec, zero_gamma
from resight.models.variants import ARCHITECTURES, create, layers_of, spec_of, stem_for
from resight.models.weights import Loaded, Source, load_weights, read_weights

__all__ = [
    "ARCHITECTURES",
    "LoadReport",
    "Loaded",
    "PretrainedWeights",
    "ResNet",
    "ResNetSpec",
    "Source",
    "count_macs",
    "create",
    "fetch",
    "guess",
    "guess_architecture",
    "known_tags",
    "layers_of",
    "load_into",
    "load_weights",
    "network_of",
    "parameter_count",
    "parse_tag",
    "read_state_dict",
    "read_weights",
    "resolve",
    "spec_of",
    "stem_for",
    "translate",
    "zero_gamma",
]


class Builder(Protocol):
    """What ``resnet18`` and its like are; the arguments are those of :func:`create`."""

    def __call__(
        self,
        *,
        num_classes: int | None = None,
        in_channels: int = 3,
        weights: str | Path | None = None,
        **overrides: Any,
    ) -> ResNet: ...


@cache
def _builder(name: str) -> Builder:
    def build(
        *,
        num_classes: int | None = None,
        in_channels: int = 3,
        weights: str | Path | None = None,
        **overrides: Any,
    ) -> ResNet:
        return create(name, num_classes=num_classes, in_channels=in_channels, weights=weights, **overrides)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f'``create("{name}", …)``: see :func:`resight.models.create`.'
    return build


def __getattr__(name: str) -> Builder:
    if name in ARCHITECTURES:
        return _builder(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *ARCHITECTURES})
