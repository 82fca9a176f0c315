"""Fifteen ways in which pictures go wrong, each at five severities: the kinds of ImageNet-C and CIFAR-10-C.

Hendrycks and Dietterich 2019 (arXiv:1903.12261), section 4.1 and appendix B, written for Resight in NumPy and Pillow:
any size, grey or coloured, from the published parameters (`strengths`). They change a picture as the network sees it,
after geometry, as ImageNet-C does at 224 px.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.evaluation.corruptions import blur, digital, noise, weather
from resight.evaluation.corruptions.strengths import SMALL, strength, table_of

__all__ = ["FAMILIES", "KINDS", "SEVERITIES", "SMALL", "corrupt", "strength", "table_of"]

Pixels = NDArray[np.uint8]

SEVERITIES = (1, 2, 3, 4, 5)
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
        "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        "weather": ("snow", "frost", "fog", "brightness"),
        "digital": ("contrast", "elastic", "pixelate", "jpeg"),
    }
)
KINDS: tuple[str, ...] = tuple(kind for kinds in FAMILIES.values() for kind in kinds)

_HOW: Mapping[str, Callable[..., NDArray[np.float32]]] = {
    kind: getattr(module, kind)
    for module, kinds in zip((noise, blur, weather, digital), FAMILIES.values(), strict=True)
    for kind in kinds
}


def corrupt(pixels: Pixels, kind: str, severity: int, seed: int = 0) -> Pixels:
    """A new picture, uint8 (H, W, 1 or 3) as ``pixels`` is: corrupted by ``kind``, one of `KINDS`.

    severity: 1 (mild) … 5 (severe). What is random depends on the seed, the kind, the severity and the picture's own
    pixels, and on nothing else: neither on the order of pictures nor on which others there are. Lengths in pixels
    follow the shorter side. Equal to the bit with equal versions of NumPy and Pillow on one machine. Raises UsageError
    for anything else.
    """
    if kind not in _HOW:
        raise UsageError(f"there is no corruption {kind!r}", hint=f"kinds: {', '.join(KINDS)}")
    if type(severity) is not int or severity not in SEVERITIES:
        raise UsageError(f"the severity is {severity!r}; expected a whole number from 1 to 5")
    if type(seed) is not int or seed < 0:
        raise UsageError(f"the seed is {seed!r}; expected a whole number, 0 or more")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise UsageError(f"expected pixels of uint8 (H, W, 1 or 3), found {pixels.dtype} {pixels.shape}")
    pixels = np.ascontiguousarray(pixels)  # sums must not depend on how the picture lies in memory
    picture = zlib.crc32(pixels.tobytes())
    random = np.random.default_rng([seed, KINDS.index(kind), severity, picture])
    unit = pixels.astype(np.float32) / 255
    changed = _HOW[kind](unit, random, *strength(kind, severity, min(pixels.shape[:2])))
    rounded: Pixels = np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)
    return rounded
