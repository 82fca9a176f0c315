"""JSON as RFC 8259 has it, for everything that is written and for files that may be a stranger's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from resight.images import printable

_DIGITS = 309
"""A float64 is below 1.8e308: a whole number with its sign in fewer characters is one."""


def read_json(data: bytes | bytearray | str) -> Any:
    """What the text says, in plain values.

    Raises ValueError for what is no JSON, is nested too deeply, or has a number that is none: ``NaN``, ``Infinity``
    (Python's json takes them) or one that a float64 does not hold (``1e999``). The message names the place.
    """
    odd: list[_Odd] = []

    def constant(text: str) -> _Odd:
        odd.append(_Odd(text))
        return odd[-1]

    def number(text: str) -> float | _Odd:
        value = float(text)
        return value if math.isfinite(value) else constant(text)

    def whole(text: str) -> int | _Odd:
        return int(text) if len(text) < _DIGITS else constant(text)

    try:
        plain = json.loads(data, parse_constant=constant, parse_float=number, parse_int=whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if odd:
        places = (place for place, value in _leaves(plain) if value is odd[0])
        raise ValueError(f"{next(places, 'a value')} is {printable(odd[0].text, 20)}, which is no number of JSON")
    return plain


def json_bytes(plain: Any, *, indent: int | None = 2) -> bytes:
    """The text of a file, with a line break at its end; file names that are no UTF-8 as JSON's escapes.

    Raises ValueError for a number that is NaN or infinite. The message names the place.
    """
    try:
        text = json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        for place, value in _leaves(plain):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{place} is {value}, which is no number of JSON") from error
        raise
    return text.encode("utf-8", "backslashreplace")


class _Odd:
    def __init__(self, text: str) -> None:
        self.text = text


def _leaves(plain: Any) -> Iterator[tuple[str, Any]]:
    """Values that hold no others, with their places: ``metrics.val[3]``. Without recursion: any depth that was read."""
    waiting = [("", plain)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            inside = [(f"{place}.{printable(str(k), 60)}".lstrip("."), v) for k, v in value.items()]
        elif isinstance(value, list | tuple):
            inside = [(f"{place}[{k}]", v) for k, v in enumerate(value)]
        else:
            yield place or "it", value
            continue
        waiting.extend(reversed(inside))
