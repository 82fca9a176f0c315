"""Pictures that cannot be read, are not what their names say, show nothing, or differ in kind from the others.

Dark and blurred pictures are outliers of their own set (further from the median than OUTLIER robust deviations, by the
median absolute deviation: Iglewicz and Hoaglin 1993) and below an absolute floor as well: a set of night scenes, or of
soft drawings, is no set of bad pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from resight.doctor.duplicates import WRITE
from resight.doctor.finding import Finding, Item
from resight.doctor.scan import Scan
from resight.images import printable

OUTLIER = 3.5
BLANK = 3.0
"""Standard deviation of grey, of 255, below which a picture shows nothing."""
DARK = 50.0
"""Its 99th percentile of grey is below this."""
BLURRED = 0.02
"""Variance of the Laplacian, by that of grey, at a longer side of 128 pixels; smaller pictures as they are."""
LONG = 3.0
"""Longer by shorter side."""
LEAST_SIDE = 28
"""Training sees no less."""
MIXED = 4.0
"""Shorter sides' 95th by their 5th percentile."""


def findings(scan: Scan, image_size: int | None = None) -> list[Finding]:
    """``image_size``: of the network, where a Run says so."""
    return [*_unusable(scan), *_poor(scan), *_shape(scan, image_size), *_kinds(scan)]


def blank(scan: Scan) -> NDArray[np.bool_]:
    """bool (N,): can be read and shows nothing."""
    return scan.good & (scan.contrast < BLANK)


def misnamed(found: list[tuple[int, str]]) -> Finding:
    """(position, true format) of each."""
    return Finding(
        "misnamed", "note", f"files that are not what their names say ({len(found):,})",
        "none here: Resight goes by the content; other tools may refuse or misread them",
        "rename them to the extension of their format",
        items=tuple(Item((position,), f"is {form}") for position, form in found),
    )  # fmt: skip


def _unusable(scan: Scan) -> Iterator[Finding]:
    if scan.failed:
        yield Finding(
            "unreadable", "error", f"pictures that cannot be read ({len(scan.failed):,})",
            "training stops before the first epoch, or leaves them out with --skip-bad",
            "copy or download them again", WRITE,
            tuple(Item((position,), reason) for position, reason in sorted(scan.failed.items())),
            cleaned="; the manifest leaves them out",
        )  # fmt: skip
    nothing = np.flatnonzero(blank(scan))
    if len(nothing):
        yield Finding(
            "blank", "warning", f"pictures that show nothing ({len(nothing):,})",
            "their labels cannot be learned, and cannot be right in val or test",
            "take them out", WRITE,
            tuple(Item((k,), f"grey {scan.light[k]:.0f} ± {scan.contrast[k]:.1f}") for k in nothing.tolist()),
            cleaned="; the manifest does",
        )  # fmt: skip
    if scan.misnamed:
        yield misnamed(sorted(scan.misnamed.items()))


def _poor(scan: Scan) -> Iterator[Finding]:
    shows = scan.good & ~blank(scan)
    dark = shows & (scan.brightest < DARK) & _low_outliers(scan.brightest, shows)
    blurred = shows & ~dark & (scan.sharpness < BLURRED) & _low_outliers(np.log(scan.sharpness + 1e-6), shows)
    for kind, which, what, values in (
        ("dark", dark, "very dark", scan.brightest),
        ("blurred", blurred, "blurred", scan.sharpness),
    ):
        if which.any():
            yield Finding(
                kind, "note", f"{what} pictures ({int(which.sum()):,})",
                "they are harder than others: where use will not have such pictures, they cost accuracy",
                "look at them; keep those that you could label yourself",
                items=tuple(Item((k,), f"{values[k]:.3g}; median {np.median(values[shows]):.3g}")
                            for k in np.flatnonzero(which).tolist()),
            )  # fmt: skip


def _low_outliers(values: NDArray[np.floating], shows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if not shows.any():
        return np.zeros(len(values), np.bool_)
    middle = np.median(values[shows])
    deviation = 1.4826 * np.median(np.abs(values[shows] - middle))
    low: NDArray[np.bool_] = values < middle - OUTLIER * deviation
    return low


def _shape(scan: Scan, image_size: int | None) -> Iterator[Finding]:
    sizes = np.maximum(scan.sizes, 1)
    short, ratio = sizes.min(axis=1), sizes.max(axis=1) / sizes.min(axis=1)
    if not scan.good.any():
        return
    middle = float(np.median(short[scan.good]))
    least = image_size / 2 if image_size else min(LEAST_SIDE, middle)
    small = scan.good & ((short < least) | (short < middle / 4))
    if small.any():
        against = f"less than half of the Run's {image_size} px" if image_size else "far less than the others'"
        yield Finding(
            "small", "warning", f"small pictures ({int(small.sum()):,}), their shorter sides {against}",
            "they are enlarged and show less than the network expects: size itself may give a class away",
            "find larger versions" + (", or train at a smaller --image-size" if (image_size or 0) > LEAST_SIDE else ""),
            items=tuple(Item((k,), f"{sizes[k, 0]} × {sizes[k, 1]}") for k in np.flatnonzero(small).tolist()),
        )  # fmt: skip
    long = scan.good & (ratio > LONG) & (ratio > 1.5 * np.median(ratio[scan.good]))
    if long.any():
        yield Finding(
            "long", "note", f"very long pictures ({int(long.sum()):,})",
            "the network sees the middle square only: what lies outside of it is lost",
            "crop them to what is meant, or train with --set data.geometry=letterbox",
            items=tuple(Item((k,), f"{sizes[k, 0]} × {sizes[k, 1]}") for k in np.flatnonzero(long).tolist()),
        )  # fmt: skip
    low, high = np.percentile(short[scan.good], (5, 95))
    if high > MIXED * low:
        yield Finding(
            "mixed-sizes", "note", "pictures of very different sizes",
            "some are enlarged and others made much smaller: sharpness differs, and may differ by class",
            "check that size does not go with the class",
            texts=(f"shorter sides: 5 % are below {low:.0f} px, 5 % above {high:.0f} px, the median is {middle:.0f}",),
        )  # fmt: skip


def _kinds(scan: Scan) -> Iterator[Finding]:
    stored = Counter((form, mode) for form, mode in zip(scan.formats, scan.modes, strict=True) if form)
    if len({mode for _, mode in stored}) > 1:
        usual = Counter({mode: 0 for _, mode in stored})
        for (_, mode), count in stored.items():
            usual[mode] += count
        rare = {mode for mode, count in usual.items() if count < 0.05 * usual.total()}
        yield Finding(
            "modes", "note", f"pixels stored in {len(usual)} ways",
            "none here: each has one written rule; where a way of storing goes with a class, that gives the class away",
            "check that it does not",
            items=tuple(Item((k,), f"{scan.formats[k]}, {printable(mode)}")
                        for k, mode in enumerate(scan.modes) if mode in rare),
            texts=tuple(f"{form} {printable(mode)}: {count:,}" for (form, mode), count in stored.most_common()),
        )  # fmt: skip
    if scan.turned.any():
        yield Finding(
            "turned", "note", f"pictures that EXIF says to turn ({int(scan.turned.sum()):,})",
            "none here: Resight turns them everywhere; a tool that does not will see them lying on their sides",
            "nothing, or write them upright for other tools",
            items=tuple(Item((k,)) for k in np.flatnonzero(scan.turned).tolist()),
        )  # fmt: skip
