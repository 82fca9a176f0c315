"""Walking through folders: hidden files ignored, links never lead out of the root, natural order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from resight.errors import DataError
from resight.images import EXTENSIONS, UNSUPPORTED_EXTENSIONS, printable
from resight.samples.order import natural_key

_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "icon\r"}

SUPPORTED, UNSUPPORTED, OTHER = "supported", "unsupported", "other"


ARRAY = ".npy"
"""The extension of arrays, which are pictures only where there are no others: beside pictures they are something else,
such as embeddings of them."""


@dataclass
class Tally:
    """Files that were seen but are not samples: unreadable kinds of pictures, and others.

    ``arrays``: whether ``.npy`` files are samples, see ``only_arrays``.
    """

    arrays: bool = False
    unsupported: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def is_hidden(name: str) -> bool:
    """True for names that no one means as data: .DS_Store, .ipynb_checkpoints, Thumbs.db, __MACOSX and the
    like.
    """
    return name.startswith(".") or name.lower() in _CLUTTER


def file_kind(name: str) -> str:
    """``SUPPORTED`` or ``UNSUPPORTED`` picture, or ``OTHER``, by the extension (the content is checked
    later).
    """
    extension = os.path.splitext(name)[1].lower()
    return SUPPORTED if extension in EXTENSIONS else UNSUPPORTED if extension in UNSUPPORTED_EXTENSIONS else OTHER


def entries(folder: Path, root: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files directly in ``folder``, each in natural order, hidden ones left
    out.

    Raises ``DataError`` for a folder that cannot be read, a link that leads out of ``root`` or nowhere, and
    a link to a folder (which could make a loop, or show pictures twice).
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if is_hidden(entry.name):
                    continue
                if entry.is_symlink():
                    check_link(Path(entry.path), root)
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():
                    files.append(entry.name)
    except OSError as error:
        raise DataError(f"{printable(str(folder))}: the folder cannot be read ({error.strerror})") from error
    return sorted(folders, key=natural_key), sorted(files, key=natural_key)


def check_link(link: Path, root: Path) -> None:
    """Raise ``DataError`` unless the link ``link`` leads to an existing file inside ``root``."""
    shown = printable(str(link))
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{shown}: this link leads nowhere", hint="remove it") from error
    if not target.is_relative_to(root.resolve()):
        raise DataError(
            f"{shown}: this link leads out of {printable(str(root))}, to {printable(str(target))}",
            hint="copy or move what it points to into the folder",
        )
    if target.is_dir():
        raise DataError(f"{shown}: links to folders are not followed", hint="move the folder itself to this place")


def is_sample(name: str, tally: Tally) -> bool:
    """Whether a file of this name is a picture of the set."""
    return file_kind(name) == SUPPORTED and (tally.arrays or not _is_array(name))


def images_below(folder: Path, root: Path, tally: Tally) -> Iterator[str]:
    """Paths, relative to ``root`` with ``/``, of all pictures in ``folder`` and below; the rest goes to
    ``tally``.
    """
    folders, files = entries(folder, root)
    prefix = folder.relative_to(root).as_posix()
    for name in files:
        relative = name if prefix == "." else f"{prefix}/{name}"
        kind = file_kind(name)
        if is_sample(name, tally):
            yield relative
        else:
            (tally.unsupported if kind == UNSUPPORTED else tally.other).append(relative)
    for name in folders:
        yield from images_below(folder / name, root, tally)


def only_arrays(folders: Iterable[Path], root: Path) -> bool:
    """Whether all pictures in these folders, and below, are arrays, of which there is at least one."""
    found = False
    for folder in folders:
        for relative in images_below(folder, root, Tally(arrays=True)):
            if not _is_array(relative):
                return False
            found = True
    return found


def _is_array(name: str) -> bool:
    return name.lower().endswith(ARRAY)
