"""Weights from anywhere, by one call: a tag, a file or a Run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from resight.errors import UsageError, WeightsError
from resight.images import Geometry
from resight.models.download import Progress
from resight.models.files import SUFFIXES, read_state_dict
from resight.models.hub import PretrainedWeights, fetch, is_tag, parse_tag, resolve
from resight.models.keys import LoadReport, class_count, load_into
from resight.models.resnet import ResNet
from resight.models.variants import OVERRIDES


@dataclass(frozen=True)
class Source:
    """Weights that were read, not yet loaded.

    state: name → tensor. architecture, options: as far as the source says so. classes: of the weights' own
    head. geometry, mean, std: what they were trained with. description: one line for people and for a Run's
    card. None is always: the source does not say. multilabel: the head answers with any number of labels.
    """

    state: Mapping[str, Tensor]
    description: str
    architecture: str | None = None
    options: Mapping[str, Any] | None = None
    classes: tuple[str, ...] | None = None
    geometry: Geometry | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    license: str | None = None
    multilabel: bool = False


@dataclass(frozen=True)
class Loaded:
    """What was loaded into a network. Fields as in :class:`Source`; mean and std have the network's channels.

    classes are the names of the weights' own head, also when ``report.replaced_head`` says that it is not
    used.
    """

    report: LoadReport
    description: str
    classes: tuple[str, ...] | None = None
    geometry: Geometry | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    license: str | None = None


def read_weights(weights: str | Path, architecture: str | None = None, *, progress: Progress | None = None) -> Source:
    """Reads weights: a file, a Run directory, a tag (``tv2_in1k``), or both names (``resnet50.a1_in1k``).

    A string is a path when something exists there, when it has a separator in it, or when it ends like a
    weights file; otherwise it is a tag, and a tag alone needs ``architecture``. Raises UsageError,
    WeightsError, RunError, DownloadError, each saying what was found and what was expected.
    """
    if _is_path(weights):
        return _from_file(Path(weights))
    text = str(weights)
    if is_tag(text):
        if architecture is None:
            raise UsageError(f"the tag '{text}' needs a model", hint=f"for example: resnet50.{text}")
        return _from_tag(resolve(text, architecture), progress)
    named, tag = parse_tag(text)
    if architecture not in (None, named):
        raise UsageError(f"'{text}' are weights of {named}, but the model is {architecture}")
    return _from_tag(resolve(tag, named), progress)


def _is_path(weights: str | Path) -> bool:
    if isinstance(weights, Path):
        return True
    has_separator = os.sep in weights or "/" in weights
    return has_separator or weights.endswith(SUFFIXES) or Path(weights).exists()


def _from_file(path: Path) -> Source:
    state, found = read_state_dict(path)
    known: dict[str, Any] = dict(found)
    classes = known.get("classes")
    wrapper = f", its '{known['wrapper']}'" if "wrapper" in known else ""
    name = known.get("architecture", known.get("arch"))
    from_run = isinstance(known.get("geometry"), Geometry)
    return Source(
        state,
        description=f"{path}{wrapper}",
        architecture=name if isinstance(name, str) else None,
        options=_options(known),
        multilabel=known.get("task") == "multi",
        classes=tuple(classes) if classes else None,
        geometry=known["geometry"] if from_run else None,
        mean=known["mean"] if from_run else None,
        std=known["std"] if from_run else None,
    )


def _options(known: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of the spec that the file names: Resight writes them; others' "options" are something else."""
    options = known.get("options")
    return dict(options) if isinstance(options, dict) and set(options) <= OVERRIDES else None


def _from_tag(pretrained: PretrainedWeights, progress: Progress | None) -> Source:
    state, _ = read_state_dict(fetch(pretrained, progress=progress))
    return Source(
        state,
        description=str(pretrained),
        architecture=pretrained.architecture,
        options={},
        classes=pretrained.classes,
        geometry=pretrained.geometry,
        mean=pretrained.mean,
        std=pretrained.std,
        license=pretrained.license,
    )


def load_weights(
    net: ResNet,
    weights: str | Path | Source,
    architecture: str | None = None,
    *,
    progress: Progress | None = None,
) -> Loaded:
    """Reads weights (see ``read_weights``) and loads them into ``net`` in place (see ``load_into``).

    ``architecture`` is the name of ``net``, needed for a tag alone. Raises WeightsError with a diff when the
    weights belong to another network, and leaves ``net`` as it was.
    """
    source = weights if isinstance(weights, Source) else read_weights(weights, architecture, progress=progress)
    named, outputs = len(source.classes or ()), class_count(source.state)
    if named and outputs not in (None, named):
        raise WeightsError(f"{source.description} names {named} classes, but its head has {outputs} outputs")
    report = load_into(net, source.state, source=source.description)
    return Loaded(
        report,
        source.description,
        classes=source.classes,
        geometry=source.geometry,
        mean=_for_channels(source.mean, net.in_channels),
        std=_for_channels(source.std, net.in_channels),
        license=source.license,
    )


def _for_channels(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    """Statistics of RGB for another number of channels: their mean for grey, else repeated in order."""
    if values is None or len(values) == channels:
        return values
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(values[i % len(values)] for i in range(channels))
