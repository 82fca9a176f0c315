"""The family by name. Each line states only what differs from its base.

The names and the layout of state dicts are torchvision's where torchvision has the net, timm's for ResNet-D
and squeeze-excitation. Every name has a plain counterpart without shortcuts: ``resnet18_plain``.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from resight.errors import UsageError
from resight.models.resnet import ResNet, ResNetSpec, StemKind

_18 = ResNetSpec("basic", (2, 2, 2, 2))
_34 = replace(_18, depths=(3, 4, 6, 3))
_50 = ResNetSpec("bottleneck", (3, 4, 6, 3))
_101 = replace(_50, depths=(3, 4, 23, 3))
_152 = replace(_50, depths=(3, 8, 36, 3))
_200 = replace(_50, depths=(3, 24, 36, 3))
IMAGENET = {18: _18, 34: _34, 50: _50, 101: _101, 152: _152, 200: _200}


def _cifar(depth: int) -> ResNetSpec:
    """He et al. 2015, §4.2: 6n + 2 layers, three stages of n basic blocks, 16, 32, 64 channels, option A."""
    blocks = (depth - 2) // 6
    return ResNetSpec("basic", (blocks,) * 3, widths=(16, 32, 64), stem="cifar", shortcut="A")


def _cifar_preact(depth: int) -> ResNetSpec:
    """He et al. 2016, §5 and appendix: 9n + 2 layers of pre-activated bottlenecks, projecting shortcuts."""
    blocks = (depth - 2) // 9
    return ResNetSpec("bottleneck", (blocks,) * 3, widths=(16, 32, 64), stem="cifar", shortcut="B", preactivation=True)


CIFAR = {depth: _cifar(depth) for depth in (8, 14, 20, 32, 44, 56, 110, 1202)}

ARCHITECTURES: dict[str, ResNetSpec] = {
    **{f"resnet{depth}": spec for depth, spec in IMAGENET.items()},
    "wide_resnet50_2": replace(_50, width_per_group=128),
    "wide_resnet101_2": replace(_101, width_per_group=128),
    "resnext50_32x4d": replace(_50, groups=32, width_per_group=4),
    "resnext101_32x8d": replace(_101, groups=32, width_per_group=8),
    "resnext101_64x4d": replace(_101, groups=64, width_per_group=4),
    **{f"resnet{d}_v1": replace(s, stride_on="1x1") for d, s in IMAGENET.items() if s.block == "bottleneck"},
    **{f"resnet{d}d": replace(s, stem="deep", shortcut="D") for d, s in IMAGENET.items()},
    **{f"seresnet{d}": replace(s, squeeze_excitation=True) for d, s in IMAGENET.items()},
    **{f"preact_resnet{d}": replace(s, preactivation=True) for d, s in IMAGENET.items()},
    **{f"resnet{depth}": spec for depth, spec in CIFAR.items()},
    **{f"preact_resnet{d}": replace(s, preactivation=True) for d, s in CIFAR.items() if d <= 110},
    "preact_resnet164": _cifar_preact(164),
    "preact_resnet1001": _cifar_preact(1001),
}
ARCHITECTURES.update({f"{name}_plain": replace(spec, shortcut="none") for name, spec in list(ARCHITECTURES.items())})

OVERRIDES = frozenset(field.name for field in fields(ResNetSpec)) - {"block", "preactivation"}


def layers_of(spec: ResNetSpec) -> int:
    """The depth that names count: convolutions on the way through the branches, stem and last layer included."""
    return 2 + sum(spec.depths) * (3 if spec.block == "bottleneck" else 2)


def spec_of(name: str, **overrides: Any) -> ResNetSpec:
    """The spec of a named architecture, some fields replaced, e.g. ``spec_of("resnet20", shortcut="B")``."""
    if name not in ARCHITECTURES:
        from difflib import get_close_matches

        near = get_close_matches(name, ARCHITECTURES, n=3) or ["resnet18", "resnet50", "resnet20"]
        raise UsageError(
            f"there is no model named '{name}'",
            hint=f"nearest names: {', '.join(near)}; all of them: resight models",
        )
    unknown = set(overrides) - OVERRIDES
    if unknown:
        raise UsageError(f"{name} has no option {sorted(unknown)}; options are {sorted(OVERRIDES)}")
    return replace(ARCHITECTURES[name], **overrides)


def stem_for(spec: ResNetSpec, image_size: int) -> StemKind:
    """The stem that keeps the last feature map useful for pictures of this size, trained from scratch.

    The ImageNet stem divides by 4 before the first stage: a 32 px picture would end in one single cell.
    Up to 40 px the CIFAR stem (stride 1) is used, up to 80 px the tiny one (stride 2), else the spec's own.
    """
    if spec.stem not in ("imagenet", "deep") or image_size > 80:
        return spec.stem
    return "cifar" if image_size <= 40 else "tiny"


def create(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    weights: str | Path | None = None,
    **overrides: Any,
) -> ResNet:
    """A network of the family, freshly initialised or with ``weights``.

    overrides: fields of :class:`ResNetSpec`. weights: a tag (``tv2_in1k``), a weights file or a Run
    directory, see :func:`resight.models.load_weights`; a Run's own options, such as its stem, are taken over.
    num_classes: None means as many as the weights have, else 1000; another number than theirs leaves the
    last layer freshly initialised.

    Raises UsageError for a name that does not exist (with the nearest ones) or an option that has no effect;
    WeightsError, RunError or DownloadError for weights that do not fit or cannot be had.
    """
    if weights is None:
        num_classes = 1000 if num_classes is None else num_classes
        return ResNet(spec_of(name, **overrides), num_classes=num_classes, in_channels=in_channels)
    from resight.models.keys import class_count  # both modules need the table above
    from resight.models.weights import load_weights, read_weights

    spec_of(name, **overrides)  # complains about names before anything is fetched
    source = read_weights(weights, name)
    if source.options and source.architecture == name:
        overrides = {**source.options, **overrides}
    if num_classes is None:
        num_classes = class_count(source.state) or 1000
    net = ResNet(spec_of(name, **overrides), num_classes=num_classes, in_channels=in_channels)
    load_weights(net, source, name)
    return net
