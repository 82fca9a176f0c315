"""Natural order: 1, 2, 10, and file2 before file10."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"([0-9]+)")

NaturalKey = tuple[tuple[tuple[int, int, str], ...], str]


def natural_key(name: str) -> NaturalKey:
    """A sort key for ``name``: runs of the digits 0-9 count as numbers, letters compare without case.

    A total order: names that differ only in case or in leading zeros are ordered by their exact code points.
    It depends on nothing but the name: no locale, no normalisation (names stay exactly as they are on disk).
    """
    parts = []
    for position, part in enumerate(_DIGITS.split(name)):
        if position % 2:
            number = part.lstrip("0")
            parts.append((0, len(number), number))
        elif part:
            parts.append((1, 0, part.casefold()))
    return tuple(parts), name
