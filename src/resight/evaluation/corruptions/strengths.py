"""How strong each kind is at each severity: the published parameters, by the size of the picture.

They are those of the authors' generators: `IMAGENET` for pictures of 224 px, `CIFAR` for pictures of 32 px, which are
milder, because a small picture has no pixels to spare. Pictures with a shorter side of at most `SMALL` take the second
table, larger ones the first. Within a table, lengths in pixels (named in `LENGTHS`) are multiplied by side / 224 or
side / 32; amplitudes, counts of photons, shares, qualities and factors stay as they are.

| kind | parameters |
|---|---|
| gaussian_noise | deviation of the noise, of 0 … 1 |
| shot_noise | photons that a white pixel receives |
| impulse_noise | share of values that become 0 or 1 |
| defocus_blur | radius of the disc, deviation of its soft edge |
| glass_blur | deviation of the blur, farthest exchange, rounds |
| motion_blur | length on either side of the pixel, deviation along the path |
| zoom_blur | largest zoom, step |
| snow | mean and deviation of the flakes' field, size of a flake, threshold, radius and deviation of its fall, share of the picture that stays as it is |
| frost | weight of the picture, weight of the ice |
| fog | density, decay of the roughness for each halving of the scale |
| brightness | added to the value of HSV |
| contrast | share that remains |
| elastic | amplitude, deviation of the smoothing, farthest shift of a corner: all as shares of the side |
| pixelate | share of the side that remains |
| jpeg | quality |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Mapping, Sequence

SMALL = 64
"""Pictures up to this shorter side are small: twice CIFAR's, where the two tables are equally far in ratio or less."""

Table = Mapping[str, Sequence[tuple[float, ...]]]

IMAGENET: Table = {
    "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    "shot_noise": ((60,), (25,), (12,), (5,), (3,)),
    "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.25, 0.02), (1.3, 0.03)),
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    # The authors multiply by 244 where the side is 224; that is kept, since it made the published scores.
    "elastic": tuple(
        tuple(share * 244 / 224 for share in shares)
        for shares in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
    ),
    "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    "jpeg": ((25,), (18,), (15,), (10,), (7,)),
}

CIFAR: Table = {
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
    "shot_noise": ((500,), (250,), (100,), (75,), (50,)),
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": ((1.05, 0.01), (1.1, 0.01), (1.15, 0.01), (1.2, 0.01), (1.25, 0.01)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    "elastic": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    "jpeg": ((80,), (65,), (58,), (50,), (40,)),
}

LENGTHS: Mapping[str, tuple[int, ...]] = {
    "defocus_blur": (0, 1),
    "glass_blur": (0, 1),
    "motion_blur": (0, 1),
    "snow": (2, 4, 5),
}
"""Positions of the parameters that are pixels, by kind. Those of ``elastic`` are shares of the side already."""


def table_of(side: int) -> str:
    """Whose parameters a picture with this shorter side gets: "CIFAR-10-C" or "ImageNet-C"."""
    return "CIFAR-10-C" if side <= SMALL else "ImageNet-C"


def strength(kind: str, severity: int, side: int) -> tuple[float, ...]:
    """The parameters of ``kind`` (see above) at ``severity`` 1 … 5 for a picture whose shorter side is ``side``."""
    table, base = (CIFAR, 32) if side <= SMALL else (IMAGENET, 224)
    lengths = LENGTHS.get(kind, ())
    published = table[kind][severity - 1]
    return tuple(value * side / base if place in lengths else value for place, value in enumerate(published))
