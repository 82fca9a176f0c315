"""Array files: idx (the MNIST family) and the binary version of CIFAR-10 and CIFAR-100. Nothing is
unpickled.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight.errors import DataError
from resight.images import printable
from resight.samples.draft import Draft, Row
from resight.samples.walk import check_link

MAX_ARRAY_BYTES = 2 * 2**30
"""Largest array file, unpacked, that is read into memory."""

_IDX_NAME = re.compile(r"^(.*?)(train|t10k|test)-(images|labels)[-.]idx([13])-ubyte(\.gz)?$", re.IGNORECASE)
_CIFAR10 = {**{f"data_batch_{n}.bin": "train" for n in range(1, 6)}, "test_batch.bin": "test"}
_CIFAR100 = {"train.bin": "train", "test.bin": "test"}
_CIFAR_PIXELS = 3 * 32 * 32
_CHUNK = 1 << 20


def detect(root: Path, files: list[str]) -> str | None:
    """ "idx" or "cifar" where the names of ``files`` in ``root`` say so. Raises ``DataError`` for pickled
    CIFAR.
    """
    if any(_IDX_NAME.match(name) for name in files):
        return "idx"
    if "data_batch_1.bin" in files or ("train.bin" in files and "fine_label_names.txt" in files):
        return "cifar"
    if "data_batch_1" in files or {"train", "test", "meta"} <= set(files):
        raise DataError(
            f"{printable(str(root))}: this is the Python version of CIFAR, which is pickled: opening it could run code",
            hint="get the binary version (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz) and unpack it",
        )
    return None


def read_idx(root: Path, files: list[str]) -> Draft:
    """Read labels and headers of train (and t10k or test) idx files, plain or gzipped.

    Classes are named by ``classes.txt`` or ``labels.txt``, one a line; else "0", "1", … Raises ``DataError``
    for wrong magic numbers, sizes or counts.
    """
    found: dict[tuple[str, str], str] = {}
    for name in sorted(files, key=lambda name: name.endswith(".gz")):  # the plain file first, where both are there
        match = _IDX_NAME.match(name)
        if match:
            split = "train" if match[2].lower() == "train" else "test"
            known = found.setdefault((split, match[3].lower()), name)
            if known not in (name, name.removesuffix(".gz")):
                raise DataError(
                    f"{printable(str(root))}: both {printable(known)} and {printable(name)} are {split} {match[3]}"
                )
    draft, numbers = Draft(root, "idx", [], channels=1, read_array=read_idx_images), []
    for split in ("train", "test"):
        if (split, "images") not in found and (split, "labels") not in found and split != "train":
            continue
        for what in ("images", "labels"):
            if (split, what) not in found:
                raise DataError(f"{printable(str(root))}: there is no idx file with the {what} of {split}")
        labels = _read_idx(root, found[split, "labels"], dimensions=1)
        images = found[split, "images"]
        count = _idx_shape(root, images, dimensions=3)[0]
        if count != len(labels):
            raise DataError(
                f"{printable(images)} has {count:,} pictures, but {printable(found[split, 'labels'])} has "
                f"{len(labels):,} labels",
                hint="they belong to different data sets: download both again",
            )
        if images.lower().endswith(".gz"):  # only unpacking shows whether it is whole
            draft.arrays[images] = read_idx_images(root / images)
        numbers.append((images, split, labels))
    _add_numbered(draft, numbers, _class_names(root, ("classes.txt", "labels.txt")))
    return draft


def read_idx_images(path: Path) -> NDArray[np.uint8]:
    """Read an idx file of pictures: uint8 (N, H, W, 1)."""
    return _read_idx(path.parent, path.name, dimensions=3)[..., None]


def _idx_shape(root: Path, name: str, dimensions: int) -> tuple[int, ...]:
    """Read and check the header; for plain files, the size of the file as well."""
    path, length = root / name, 4 + 4 * dimensions
    header = _read_bytes(path, root, length, exact=False)
    magic = bytes((0, 0, 8, dimensions))
    if len(header) < length or header[:4] != magic:
        raise DataError(
            f"{printable(name)}: its first bytes are {header[:4].hex(' ')}; expected "
            f"{magic.hex(' ')}, an idx file of "
            f"unsigned bytes in {dimensions} dimensions",
            hint="download it again",
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = length + _product(shape)
    if size > MAX_ARRAY_BYTES:
        raise DataError(f"{printable(name)}: its header says {shape}: more than {MAX_ARRAY_BYTES / 2**30:.0f} GiB")
    if 0 in shape:
        raise DataError(f"{printable(name)}: its header says {shape}: there is nothing in it")
    if not name.lower().endswith(".gz") and path.stat().st_size != size:
        raise DataError(
            f"{printable(name)}: has {path.stat().st_size:,} bytes; expected {size:,} for {shape}",
            hint="download it again",
        )
    return shape


def _read_idx(root: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    shape = _idx_shape(root, name, dimensions)
    length = 4 + 4 * dimensions
    content = _read_bytes(root / name, root, length + _product(shape), exact=True)
    return np.frombuffer(content, np.uint8, offset=length).reshape(shape)


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _read_bytes(path: Path, root: Path, size: int, *, exact: bool) -> bytearray:
    """Read ``size`` bytes, unpacking .gz, in pieces: memory follows what is really there, up to ``size``.

    With ``exact``, raise ``DataError`` unless the content ends right there.
    """
    if path.is_symlink():
        check_link(path, root)
    name, content = printable(path.name), bytearray()
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb") as stream:
            while len(content) < size and (piece := stream.read(min(_CHUNK, size - len(content)))):
                content += piece
            more = bool(exact and stream.read(1))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: cannot be read ({error})", hint="download it again") from error
    if exact and (more or len(content) != size):
        have = "more" if more else f"only {len(content):,}"
        raise DataError(f"{name}: has {have} bytes; expected {size:,} by its header", hint="download it again")
    return content


def read_cifar(root: Path, files: list[str]) -> Draft:
    """Read the labels of CIFAR's binary version. Raises ``DataError`` for missing files and wrong sizes."""
    ten = "data_batch_1.bin" in files
    batches, names_file = (_CIFAR10, "batches.meta.txt") if ten else (_CIFAR100, "fine_label_names.txt")
    missing = [name for name in (*batches, names_file) if name not in files]
    if missing:
        raise DataError(
            f"{printable(str(root))}: CIFAR files are missing: {', '.join(missing)}", hint="unpack it again"
        )
    draft = Draft(root, "cifar", [], channels=3, read_array=read_cifar_images)
    numbers = [
        (name, split, np.array(_cifar_records(root / name)[:, -1 - _CIFAR_PIXELS])) for name, split in batches.items()
    ]
    _add_numbered(draft, numbers, _class_names(root, (names_file,)))
    return draft


def read_cifar_images(path: Path) -> NDArray[np.uint8]:
    """Read one binary batch: uint8 (N, 32, 32, 3) RGB."""
    planes = _cifar_records(path)[:, -_CIFAR_PIXELS:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _cifar_records(path: Path) -> NDArray[np.uint8]:
    """(N, 1 or 2 labels + 3072). CIFAR-100's first label is the coarse one."""
    record = (1 if path.name in _CIFAR10 else 2) + _CIFAR_PIXELS
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{printable(path.name)}: cannot be read ({error.strerror})") from error
    if size == 0 or size % record or size > MAX_ARRAY_BYTES:
        raise DataError(
            f"{path.name}: has {size:,} bytes; expected a whole number of records of {record:,} bytes",
            hint="get CIFAR's binary version again",
        )
    if path.is_symlink():
        check_link(path, path.parent)
    return np.memmap(path, np.uint8, mode="r").reshape(-1, record)


def _class_names(root: Path, candidates: tuple[str, ...]) -> tuple[str, ...] | None:
    for name in candidates:
        path = root / name
        if not path.is_file():
            continue
        if path.is_symlink():
            check_link(path, root)
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{name}: the class names cannot be read ({printable(str(error))})",
                hint="UTF-8, one name a line",
            ) from error
        lines = tuple(line.strip() for line in text.splitlines() if line.strip())
        if len(set(lines)) != len(lines):
            raise DataError(f"{name}: some class names are there twice", hint="give each class a name of its own")
        return lines
    return None


def _add_numbered(
    draft: Draft, numbers: list[tuple[str, str, NDArray[np.uint8]]], names: tuple[str, ...] | None
) -> None:
    highest = max(int(labels.max()) for _, _, labels in numbers)
    classes = names or tuple(str(number) for number in range(highest + 1))
    if highest >= len(classes):
        raise DataError(
            f"{printable(str(draft.root))}: the labels go up to {highest}, but there are only "
            f"{len(classes)} class names"
        )
    draft.classes = classes
    for source, split, labels in numbers:
        draft.rows += [Row(source, index, classes[label], split) for index, label in enumerate(labels.tolist())]
