"""Where a command may write: checked before the work begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resight.errors import UsageError
from resight.images import printable
from resight.runs import CARD


def check_outputs(outputs: Mapping[str, Path | None], *, endings: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Refuses places that would be found wrong only at the end, or where something would be lost.

    outputs: option → file, None where it is not wanted. endings: option → how its file's name must end, for commands
    that could otherwise replace a picture of the data. Raises UsageError for a folder that does not exist, what is no
    regular file, a file in a Run (a sealed one never changes), and two options with one file.
    """
    taken: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        shown, real = printable(str(path)), path.resolve()
        if real in taken:
            raise UsageError(f"{taken[real]} and {option} would both write {shown}", hint="give them different names")
        taken[real] = option
        allowed = (endings or {}).get(option, ())
        if allowed and real.suffix.lower() not in allowed:
            raise UsageError(f"{option} {shown}: expected a name that ends in {' or '.join(allowed)}")
        check_outside_runs(path)
        if not real.parent.is_dir():
            raise UsageError(
                f"{option} {shown}: there is no folder {printable(str(real.parent))}", hint="make it first"
            )
        if real.exists() and not real.is_file():
            raise UsageError(f"{option} {shown} is not a regular file", hint="give the name of a file to write")


def check_outside_runs(path: Path) -> None:
    """Raises UsageError for a file or folder that is, or lies in, a Run: a sealed one never changes."""
    real = path.resolve()
    for folder in (real, *real.parents):
        if (folder / CARD).is_file():
            raise UsageError(
                f"{printable(str(path))} would lie in the Run {printable(str(folder))}, which never changes",
                hint="write to another place",
            )
