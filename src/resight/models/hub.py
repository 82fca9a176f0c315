"""Pretrained weights by their tags: where they are, and what they expect of a picture.

``tv_in1k`` and ``tv2_in1k`` (torchvision calls them ``IMAGENET1K_V1`` and ``IMAGENET1K_V2``; ``DEFAULT`` is
its best) come from torchvision's server. Every other tag is timm's and comes from the Hugging Face hub,
repository ``timm/ARCHITECTURE.TAG``. Nothing is fetched before it is asked for.
"""

from __future__ import annotations

import math
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resight.errors import DownloadError, UsageError, WeightsError
from resight.images import Geometry
from resight.models.download import Progress, download
from resight.models.variants import spec_of
from resight.runs.plain_json import read_json
from resight.runs.storage import cache_directory, make_cache, sha256_of

TORCHVISION_TAGS = {
    "tv_in1k": "IMAGENET1K_V1",
    "tv2_in1k": "IMAGENET1K_V2",
    "IMAGENET1K_V1": "IMAGENET1K_V1",
    "IMAGENET1K_V2": "IMAGENET1K_V2",
    "DEFAULT": "DEFAULT",
}

_RSB = ("a1_in1k", "a2_in1k", "a3_in1k")  # Wightman et al. 2021, ResNet strikes back
_FACEBOOK = ("fb_ssl_yfcc100m_ft_in1k", "fb_swsl_ig1b_ft_in1k")  # for non-commercial use only
TIMM_TAGS: dict[str, tuple[str, ...]] = {
    "resnet18": (*_RSB, "gluon_in1k", *_FACEBOOK),
    "resnet34": (*_RSB, "bt_in1k", "gluon_in1k"),
    "resnet50": (
        *(*_RSB, "a1h_in1k", "b1k_in1k", "b2k_in1k", "c1_in1k", "c2_in1k", "d_in1k"),
        *("ram_in1k", "am_in1k", "ra_in1k", "bt_in1k", "gluon_in1k", *_FACEBOOK),
    ),
    "resnet101": (*_RSB, "a1h_in1k", "gluon_in1k"),
    "resnet152": (*_RSB, "a1h_in1k", "gluon_in1k"),
    "resnet200": (),
    "wide_resnet50_2": ("racm_in1k",),
    "wide_resnet101_2": (),
    "resnext50_32x4d": (*_RSB, "a1h_in1k", "ra_in1k", "gluon_in1k", *_FACEBOOK),
    "resnext101_32x8d": ("fb_wsl_ig1b_ft_in1k", *_FACEBOOK),
    "resnext101_64x4d": ("c1_in1k", "gluon_in1k"),
    "resnet18d": ("ra2_in1k",),
    "resnet34d": ("ra2_in1k",),
    "resnet50d": (*_RSB, "ra2_in1k", "ra4_e3600_r224_in1k", "gluon_in1k"),
    "resnet101d": ("ra2_in1k", "gluon_in1k"),
    "resnet152d": ("ra2_in1k", "gluon_in1k"),
    "resnet200d": ("ra2_in1k",),
    "seresnet18": (),
    "seresnet34": (),
    "seresnet50": (*_RSB, "ra2_in1k"),
    "seresnet101": (),
    "seresnet152": (),
}
"""The architectures whose names, keys and layers are timm's too, and tags known of each; others are tried.

From timm's ``models/resnet.py`` and its published list. timm's pre-activation nets have other layers under
other names, and are not offered.
"""


@dataclass(frozen=True)
class PretrainedWeights:
    """One set of weights that somebody published.

    tag: its own name (``tv2_in1k`` even if it was asked for as ``DEFAULT``). source: a URL (torchvision) or a
    repository of the Hugging Face hub (timm). sha256: the first digits of the file's hash where they are
    known beforehand. geometry: from a picture to the network's input. mean, std: per RGB channel, of pixels
    in [0, 1]. classes: names in the order of the outputs, None where nobody published them. license: as its
    publisher states it.
    """

    architecture: str
    tag: str
    source: str
    sha256: str | None
    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] | None
    license: str | None

    @property
    def from_hub(self) -> bool:
        return not self.source.startswith(("https://", "http://"))

    def __str__(self) -> str:
        return f"{self.architecture}.{self.tag} ({self.source})"


def parse_tag(name: str) -> tuple[str, str]:
    """``"resnet50.tv2_in1k"`` → ``("resnet50", "tv2_in1k")``.

    Raises UsageError when there is no tag or no such architecture.
    """
    architecture, dot, tag = name.partition(".")
    if not dot or not is_tag(tag):
        raise UsageError(f"'{name}' is not ARCHITECTURE.TAG", hint="for example: resnet50.tv2_in1k")
    spec_of(architecture)
    return architecture, tag


def is_tag(text: str) -> bool:
    """Whether ``text`` is spelled like a tag: letters, digits and underscores."""
    return re.fullmatch(r"\w+", text, re.ASCII) is not None


def known_tags(architecture: str) -> tuple[str, ...]:
    """The tags known of an architecture, torchvision's first. Asks torchvision, not the network."""
    ours = [tag for tag, name in TORCHVISION_TAGS.items() if tag != name and _torchvision(architecture, name)]
    return (*ours, *TIMM_TAGS.get(architecture, ()))


def resolve(tag: str, architecture: str) -> PretrainedWeights:
    """Finds out what a tag means; for timm's tags by a small ``config.json`` from the hub.

    Raises UsageError for a tag that this architecture does not have, DownloadError when the hub cannot be
    reached and there is no cached copy.
    """
    spec_of(architecture)
    if not is_tag(tag):
        raise UsageError(f"'{tag}' is not a tag", hint=_advice(architecture))
    if tag in TORCHVISION_TAGS:
        return _resolve_torchvision(tag, architecture)
    if architecture not in TIMM_TAGS:
        raise UsageError(f"{architecture} has no weights tagged '{tag}'", hint=_advice(architecture))
    return _resolve_timm(tag, architecture)


def here(architecture: str, tag: str) -> bool:
    """Whether the weights of a tag are on this machine already. Asks no server."""
    if tag in TORCHVISION_TAGS:
        return _cached(_resolve_torchvision(tag, architecture)).is_file()
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(f"timm/{architecture}.{tag}", "model.safetensors", _hub_cache()), str)


def _hub_cache() -> str | None:
    """Where files of the hub are kept; None: where the hub's own library keeps them."""
    return str(cache_directory("weights") / "hub") if os.environ.get("RESIGHT_CACHE") else None


def _cached(pretrained: PretrainedWeights) -> Path:
    """Where weights of torchvision's server are kept."""
    return cache_directory("weights") / Path(urllib.parse.urlsplit(pretrained.source).path).name


def fetch(pretrained: PretrainedWeights, *, progress: Progress | None = None) -> Path:
    """The weights as a file on this machine: ``.pth`` from torchvision, ``.safetensors`` from the hub.

    Downloads only what is not cached: in ``$RESIGHT_CACHE/weights`` or ``~/.cache/resight/weights`` and the hub's
    own cache. ``RESIGHT_WEIGHTS_MIRROR`` (torchvision) and ``HF_ENDPOINT`` (the hub) name other servers; the
    hub shows its own progress. Raises DownloadError when the file cannot be had or its hash is wrong.
    """
    if pretrained.from_hub:
        return _hub_file(pretrained.source, "model.safetensors")
    make_cache(cache_directory("weights"))
    target = _cached(pretrained)
    return download(pretrained.source, target, sha256=pretrained.sha256 or "", progress=progress)


def _advice(architecture: str) -> str:
    if tags := known_tags(architecture):
        return f"known tags of {architecture}: {', '.join(tags)}"
    return f"no weights are known of {architecture}; 'resight models' shows which models have some"


def _torchvision(architecture: str, name: str) -> Any:
    """An entry of torchvision's weights enum, None where it has none."""
    from torchvision.models import get_model_weights, list_models

    if architecture not in list_models():
        return None
    return getattr(get_model_weights(architecture), name, None)


def _resolve_torchvision(tag: str, architecture: str) -> PretrainedWeights:
    entry = _torchvision(architecture, TORCHVISION_TAGS[tag])
    if entry is None:
        raise UsageError(f"torchvision has no weights '{tag}' for {architecture}", hint=_advice(architecture))
    transforms = entry.transforms()
    own_tag = next(ours for ours, theirs in TORCHVISION_TAGS.items() if theirs == entry.name)
    hash_in_name = re.search(r"-([0-9a-f]{8,})\.pth$", entry.url)
    if hash_in_name is None:
        raise WeightsError(f"{entry.url} carries no hash in its name, so it could not be checked")
    return PretrainedWeights(
        architecture,
        own_tag,
        source=entry.url,
        sha256=hash_in_name[1],
        geometry=Geometry(
            "crop", transforms.crop_size[0], transforms.resize_size[0], transforms.interpolation.value, version=1
        ),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        classes=tuple(entry.meta["categories"]),
        license="bsd-3-clause",
    )


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet-1k's 1000 classes, in the usual order, as torchvision spells them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _resolve_timm(tag: str, architecture: str) -> PretrainedWeights:
    repository = f"timm/{architecture}.{tag}"
    path = _hub_file(repository, "config.json")
    try:
        config = read_json(path.read_bytes())
        return _from_timm_config(config, tag, architecture, repository)
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{repository}: its config.json is not what timm writes ({type(error).__name__}: {error})"
        ) from error


def _from_timm_config(config: Mapping[str, Any], tag: str, architecture: str, repository: str) -> PretrainedWeights:
    if config["architecture"] != architecture:
        raise WeightsError(f"{repository} holds weights of {config['architecture']}, expected {architecture}")
    settings = config["pretrained_cfg"]
    channels, size, _ = settings["input_size"]
    if channels != 3:
        raise WeightsError(f"{repository} takes {channels} channels, expected 3")
    # timm's own rounding: the shorter side becomes floor(size / crop_pct) before the crop
    resize = math.floor(size / settings["crop_pct"])
    classes = settings.get("label_names") or config.get("label_names")
    if classes is None and settings["num_classes"] == 1000 and tag.endswith("in1k"):
        classes = imagenet_classes()
    return PretrainedWeights(
        architecture,
        tag,
        source=repository,
        sha256=None,
        geometry=Geometry("crop", size, resize, settings["interpolation"], version=1),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        classes=tuple(classes) if classes else None,
        license=settings.get("license"),
    )


def _hub_file(repository: str, name: str) -> Path:
    """One file of a hub repository, cached or fetched; checked where the hub states a sha256."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError

    constants.HF_HUB_DISABLE_TELEMETRY = True
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if _hub_cache():
        make_cache(cache_directory("weights"))
    try:
        path = Path(hf_hub_download(repository, name, endpoint=endpoint, cache_dir=_hub_cache()))
    except (RepositoryNotFoundError, RemoteEntryNotFoundError) as error:
        architecture = repository.removeprefix("timm/").partition(".")[0]
        raise DownloadError(
            f"{endpoint}/{repository} has no {name}, or needs a login", hint=_advice(architecture)
        ) from error
    except Exception as error:  # refused, unreachable, cut off: errors of whichever HTTP client the hub uses
        raise DownloadError(
            f"could not download {name} of {endpoint}/{repository} ({type(error).__name__}: {error})",
            hint="check the connection and try again, or name a mirror in HF_ENDPOINT; or fetch the file "
            "model.safetensors of it elsewhere, and give its path instead of the tag",
        ) from error
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and sha256_of(blob) != blob.name:
        blob.unlink()
        raise DownloadError(
            f"{name} of {repository} is damaged: its sha256 is not {blob.name[:12]}…; it was removed",
            hint="try again",
        )
    return path
