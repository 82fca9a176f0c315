"""Every error that Resight raises on purpose.

    ResightError                    exit code 1: something failed
    ├── UsageError                  exit code 2: an option, argument or combination of them is wrong
    │   └── MissingExtra            a command needs an optional dependency that is not installed
    ├── DataError                   exit code 2: the data set is not what it must be
    │   └── ImageError              one picture cannot be used
    │       ├── UnsupportedImage    not one of the formats or modes that Resight reads (HTTP 415)
    │       ├── UndecodableImage    the right format, but truncated or broken (HTTP 422)
    │       └── ImageTooLarge       more pixels or bytes than the limit (HTTP 413)
    ├── RunError                    exit code 2: a Run is missing, incomplete, damaged or of another version
    │   └── RunLocked               another process is training in this Run directory
    ├── WeightsError                exit code 2: weights that are refused, or do not fit the network
    ├── DownloadError               exit code 1: weights could not be fetched, or arrived damaged
    ├── TrainingError               exit code 1: training stopped
    │   ├── NonFiniteLoss           the loss became NaN or infinite
    │   ├── OutOfMemory             not even one picture at a time fits
    │   └── LoaderFailed            a loader worker died
    ├── StorageError                exit code 1: a file could not be written (disk full, read-only)
    ├── ParityError                 exit code 1: an exported model answers differently from the network
    ├── QuantizationError           exit code 1: no int8 form is both within the budget and faster than fp32
    ├── AdaptationError             exit code 1: no adaptive form is both within the budget and faster
    └── Interrupted                 exit code 130 or 143: stopped by a signal, state saved

A message says what was found and what was expected; ``hint`` says what to do next. ``str(error)`` shows both.
"""

from __future__ import annotations


class ResightError(Exception):
    """Base of all errors of this package. ``hint`` is the remedy, shown on a line of its own."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class UsageError(ResightError):
    exit_code = 2


class MissingExtra(UsageError):
    """``extra`` is the name of the optional dependency group that would provide what is missing."""

    def __init__(self, needed_for: str, extra: str) -> None:
        super().__init__(
            f"{needed_for} needs the optional '{extra}' dependencies, which are not installed",
            hint=f"pip install 'resight[{extra}]', or from a copy of the repository: pip install '.[{extra}]'",
        )
        self.extra = extra


class DataError(ResightError):
    exit_code = 2


class ImageError(DataError):
    """One picture that cannot be used. ``source`` is its path or name, ``reason`` says why in plain words."""

    def __init__(self, reason: str, *, source: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"{source}: {reason}" if source else reason, hint=hint)
        self.reason = reason
        self.source = source


class UnsupportedImage(ImageError):
    pass


class UndecodableImage(ImageError):
    pass


class ImageTooLarge(ImageError):
    pass


class RunError(ResightError):
    exit_code = 2


class RunLocked(RunError):
    pass


class WeightsError(ResightError):
    exit_code = 2


class DownloadError(ResightError):
    pass


class TrainingError(ResightError):
    pass


class NonFiniteLoss(TrainingError):
    pass


class OutOfMemory(TrainingError):
    pass


class LoaderFailed(TrainingError):
    pass


class StorageError(ResightError):
    pass


class ParityError(ResightError):
    pass


class QuantizationError(ResightError):
    pass


class AdaptationError(ResightError):
    pass


class Interrupted(ResightError):
    """Stopped by SIGINT (130) or SIGTERM (143) after the state was saved."""

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number
