"""What the server allows: every bound in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resight.errors import UsageError
from resight.images import MAX_PIXELS
from resight.inference import BATCH

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""What is accepted from strangers: fewer formats than Resight reads from files."""
MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """The bounds of one server.

    threads: that compute, and as many that decode. batch: the most pictures computed at a time by a thread. queue: the
    most pictures that are waiting, decoded or computed at a time, of all requests. deadline: seconds from the whole
    request to its answer. max_bytes: of one request's body. max_pixels: width times height of one picture.

    queue_bytes: of all bodies held at a time. json_bytes: of JSON in a request; parsing stops everything else for its
    time. files: the most pictures of one request. A body may take ``upload_seconds`` and one second more for each
    ``upload_rate`` bytes that have arrived. connections: open at a time. drain_seconds: how long connections are still
    answered after the signal to stop, so that whoever watches ``ready`` sees it.
    Raises UsageError for values that allow nothing.
    """

    threads: int
    batch: int = BATCH
    queue: int = 64
    deadline: float = 10.0
    max_bytes: int = 32 * MIB
    max_pixels: int = MAX_PIXELS
    queue_bytes: int = 256 * MIB
    json_bytes: int = 4 * MIB
    most_files: int = 32
    upload_seconds: float = 10.0
    upload_rate: int = 16 * 1024
    connections: int = 512
    drain_seconds: float = 1.0

    def __post_init__(self) -> None:
        whole = ("threads", "batch", "queue", "max_bytes", "max_pixels")
        for name in whole:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UsageError(f"{name} is {value!r}; expected a whole number, 1 or more")
        if not 0 < self.deadline < 86_400:
            raise UsageError(f"the deadline is {self.deadline!r} seconds; expected more than 0 and less than a day")
        if self.max_bytes > self.queue_bytes:
            raise UsageError(
                f"max_bytes is {self.max_bytes}, more than the {self.queue_bytes} bytes that are held at a time",
                hint=f"give at most {self.queue_bytes}",
            )

    @property
    def files(self) -> int:
        return min(self.most_files, self.queue)

    def shown(self) -> dict[str, Any]:
        """For the page: what may be sent."""
        return {
            "megapixels": self.max_pixels / 1e6,
            "bytes": self.max_bytes,
            "formats": list(FORMATS),
            "files": self.files,
        }
