"""Where a training's time goes, and what limits it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

Activity = Literal["data", "compute", "validation", "writing"]
Item = TypeVar("Item")

_NAMES: dict[Activity, str] = {
    "compute": "computing",
    "data": "waiting for pictures",
    "validation": "validating",
    "writing": "writing checkpoints",
}
_MUCH = 0.25  # of the time: then it is worth doing something about it
_REMEDIES: dict[Activity, str] = {
    "data": "pictures limit this training: try more --workers, a larger --set data.cache_gb, or smaller files",
    "writing": "writing limits this training: try a larger --set save_minutes, or a faster disk",
}


class Clock:
    """Wall-clock seconds of this process, by what it was doing."""

    def __init__(self) -> None:
        self.seconds: dict[Activity, float] = dict.fromkeys(_NAMES, 0.0)

    @contextmanager
    def __call__(self, activity: Activity) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += time.perf_counter() - begun

    def waiting(self, items: Iterable[Item], activity: Activity) -> Iterator[Item]:
        """The items; the time until each one is there counts for ``activity``."""
        source, end = iter(items), object()
        while True:
            with self(activity):
                item = next(source, end)
            if item is end:
                return
            yield item  # type: ignore[misc]  # not the sentinel

    def text(self) -> str:
        """One line: shares of the time, and what limits the training; empty before the first update."""
        total = sum(self.seconds.values())
        if not self.seconds["compute"]:
            return ""
        shares = sorted(((s / total, a) for a, s in self.seconds.items() if s / total >= 0.005), reverse=True)
        parts = ", ".join(f"{100 * share:.0f} % {_NAMES[activity]}" for share, activity in shares)
        line = f"time: {parts}"
        limit = next((activity for share, activity in shares if share >= _MUCH and activity in _REMEDIES), None)
        return f"{line}; {_REMEDIES[limit] if limit else 'computing limits this training'}"
