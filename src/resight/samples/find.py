"""Which pictures are meant by files, folders and patterns on a command line."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from resight.errors import UsageError
from resight.images import printable
from resight.samples.load import URL
from resight.samples.order import natural_key
from resight.samples.walk import Tally, images_below, only_arrays


def find_images(inputs: Sequence[str | Path], *, arrays: bool = False) -> list[Path]:
    """Expand files, folders (with all below them) and patterns such as ``photos/*.jpg`` to files.

    What is named itself is taken whatever its extension; in folders, files with the extension of a picture that is read
    are, hidden ones not; ``.npy`` only where there are no others, or with ``arrays`` always. Natural order within each
    input, each file once. Raises ``UsageError`` for addresses, for what does not exist, and for inputs without any
    picture; ``DataError`` for links that lead out of a folder.
    """
    found: dict[str, Path] = {}  # by the real name: as text, since a Path takes twice the memory
    folders: dict[str, str] = {}
    for given in inputs:
        if URL.match(str(given)):
            raise UsageError(f"{printable(str(given))} is an address, not a file", hint="download it first")
        if not str(given):
            raise UsageError("an empty name was given as a picture", hint="perhaps a shell variable is not set")
        pictures = _expand(Path(given), arrays)
        if not pictures:
            raise UsageError(f"there are no pictures in {printable(str(given))}")
        for path in pictures:
            found.setdefault(_real(path, folders), path)
    if not found:
        raise UsageError("no pictures were given", hint="name files, folders or patterns")
    return list(found.values())


def _real(path: Path, folders: dict[str, str]) -> str:
    """``path.resolve()``, which looks at each folder above again for each file; ``folders`` are those seen before."""
    if path.is_symlink():
        return str(path.resolve())
    folder = os.path.dirname(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], path.name)


def _expand(path: Path, arrays: bool) -> list[Path]:
    try:
        if path.is_dir():
            return _in_folder(path, arrays)
        if path.exists():
            return [path]
    except (OSError, ValueError) as error:
        raise UsageError(f"{printable(str(path))}: cannot be opened ({printable(str(error))})") from error
    if not glob.has_magic(str(path)):
        raise UsageError(f"there is no file or folder {printable(str(path))}", hint="check the path")
    matches = sorted(glob.glob(str(path), recursive=True), key=natural_key)
    if not matches:
        raise UsageError(f"nothing matches {printable(str(path))}", hint="check the pattern")
    return [picture for match in matches for picture in _expand_match(Path(match), arrays)]


def _expand_match(path: Path, arrays: bool) -> list[Path]:
    if path.is_dir():
        return _in_folder(path, arrays)
    return [path] if path.exists() else []


def _in_folder(folder: Path, arrays: bool) -> list[Path]:
    tally = Tally(arrays=arrays or only_arrays([folder], folder))
    return [folder / relative for relative in images_below(folder, folder, tally)]
