"""Why a request is not answered, with its status code.

400  malformed     JSON, tensors, multipart or parameters that are not what they must be
403  origin        asked by a page of another site
404  missing       no such model, version, class or path
405  method
408  slow          the body arrives too slowly
413  too_large     more bytes, pixels or pictures than allowed
415  unsupported   another type or encoding
421  host          asked for by a name that is not ours
422  undecodable   a picture that is cut short or broken
429  full          as many pictures as allowed are waiting
500  failed        our own bug, or a damaged network
503  loading, draining, failed_to_load, connections
504  deadline
"""

from __future__ import annotations

from resight.errors import ImageError, ImageTooLarge, UndecodableImage, UnsupportedImage


class Refused(Exception):
    """An answer that is an error: status, a short ``reason`` for metrics, a message in plain words.

    retry_after: seconds after which the same request may be answered. close: whether the connection ends with it.
    """

    def __init__(
        self, status: int, reason: str, message: str, *, retry_after: int | None = None, close: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.retry_after, self.close = retry_after, close


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


def malformed(message: str) -> Refused:
    return Refused(400, "malformed", message)


def too_many(most: int) -> Refused:
    """More pictures than ``most`` in one request."""
    return Refused(413, "too_large", f"more than {most} pictures in one request: send them in several")


_IMAGES: dict[type[ImageError], tuple[int, str]] = {
    UnsupportedImage: (415, "unsupported"),
    UndecodableImage: (422, "undecodable"),
    ImageTooLarge: (413, "too_large"),
}


def status_of(error: ImageError) -> tuple[int, str]:
    """The status and the reason for a picture that cannot be used."""
    return _IMAGES.get(type(error), (422, "undecodable"))


def refused_image(error: ImageError, where: str = "") -> Refused:
    """The refusal for one picture; ``where`` stands before its reason."""
    status, reason = status_of(error)
    hint = f"; {error.hint}" if error.hint and not isinstance(error, ImageTooLarge) else ""
    return Refused(status, reason, f"{where}{error.reason}{hint}")
