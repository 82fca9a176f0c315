r"""Several names in one cell: how the labels of a picture are written in tables and in split.csv.

Names are separated by ``|``. Within a name ``\|`` is a bar and ``\\`` a backslash; any other backslash stands for
itself. Blanks around a name are not part of it. An empty cell is a picture with no label.
"""

from __future__ import annotations

from collections.abc import Iterable

SEPARATOR = "|"
ESCAPE = "\\"


def join(names: Iterable[str]) -> str:
    """The cell of these names, in their order; empty for none. ``split`` undoes it."""
    escaped = (name.replace(ESCAPE, ESCAPE + ESCAPE).replace(SEPARATOR, ESCAPE + SEPARATOR) for name in names)
    return SEPARATOR.join(escaped)


def split(cell: str) -> tuple[str, ...]:
    """The names in a cell, in their order. Raises ValueError for an empty name between bars and for one named twice."""
    if not cell.strip():
        return ()
    names, characters = [""], iter(cell)
    for character in characters:
        if character == SEPARATOR:
            names.append("")
        elif character == ESCAPE:
            following = next(characters, "")
            names[-1] += following if following in (ESCAPE, SEPARATOR) else ESCAPE + following
        else:
            names[-1] += character
    found = tuple(name.strip() for name in names)
    if "" in found:
        raise ValueError("there is an empty name between the bars")
    if len(set(found)) != len(found):
        raise ValueError(f"{next(name for name in found if found.count(name) > 1)!r} is named twice")
    return found
