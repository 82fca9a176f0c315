"""Predictions as a Parquet file (Apache Parquet format 2.6), by pyarrow: the extra ``parquet``.

A row for each picture, in order; the columns are those of JSON:

    source         string                                          the name as it was given
    source_bytes   binary                                          its own bytes, where they are no UTF-8; else null
    label          string                                          null for an error
    probability    float32
    top            list<struct<class: string, probability: float32>>   empty for an error
    labels         the same                                        null for Runs that answer with one class
    unknown        bool                                            null where the Run cannot tell
    score          struct<name: string, value: float32, threshold: float32>
    error          string                                          null for an answer

Of an adaptive artefact ``route``, string, comes last: which of its graphs answered; of one that looks at some tiles
only ``tiles``, struct<looked: int64, all: int64>: at how many, of how many.

Text in Parquet is UTF-8, always. A name that is not has its stray bytes in ``source`` as JSON writes them
(``\\udcff``), and all of its bytes, exactly, in ``source_bytes``. Names of classes have no second column.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from resight.errors import MissingExtra
from resight.inference.pipeline import batched
from resight.runs.storage import fsync_directory, storage_errors, write_file

if TYPE_CHECKING:
    import pyarrow

ROWS = 8192
"""Rows of a group: what is in memory at a time."""


def load_pyarrow() -> Any:
    """pyarrow with its Parquet module. Raises MissingExtra."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("Parquet", "parquet") from error
    return pyarrow


def schema(*, route: bool = False, tiles: bool = False) -> pyarrow.Schema:
    """The columns and their types, as in the head of this module. route, tiles: also these. Raises MissingExtra."""
    pa = load_pyarrow()
    pairs = pa.list_(pa.struct([("class", pa.string()), ("probability", pa.float32())]))
    score = pa.struct([("name", pa.string()), ("value", pa.float32()), ("threshold", pa.float32())])
    return pa.schema(
        [
            pa.field("source", pa.string(), nullable=False),
            ("source_bytes", pa.binary()),
            ("label", pa.string()),
            ("probability", pa.float32()),
            pa.field("top", pairs, nullable=False),
            ("labels", pairs),
            ("unknown", pa.bool_()),
            ("score", score),
            ("error", pa.string()),
            *([("route", pa.string())] if route else []),
            *([("tiles", pa.struct([("looked", pa.int64()), ("all", pa.int64())]))] if tiles else []),
        ]
    )


def embedding_schema(width: int) -> pyarrow.Schema:
    """Columns for embeddings of ``width`` numbers: source, source_bytes, label, unknown as above, and ``embedding``,
    float32 of a fixed number. Raises MissingExtra.
    """
    pa, columns = load_pyarrow(), schema()
    named = [columns.field(name) for name in ("source", "source_bytes", "label", "unknown")]
    return pa.schema([*named, pa.field("embedding", pa.list_(pa.float32(), width), nullable=False)])


def write_parquet(rows: Iterable[Mapping[str, Any]], path: Path, columns: pyarrow.Schema | None = None) -> None:
    """Creates ``path`` with a row for each of ``rows``, and returns when it is on the disk.

    rows: of ``columns``, but for ``source_bytes``; by default as JSON has predictions. ``ROWS`` of them are in memory
    at a time. What ``rows`` raises is raised. Raises MissingExtra, StorageError.
    """
    pa = load_pyarrow()
    columns = schema() if columns is None else columns

    def write(file: IO[bytes]) -> None:
        writer = pa.parquet.ParquetWriter(file, columns)
        try:
            for group in batched(rows, ROWS):
                table = pa.Table.from_pylist([_row(row) for row in group], schema=columns)
                writer.write_table(table, row_group_size=ROWS)
        finally:
            writer.close()

    with storage_errors(path):
        write_file(path, write)


def save(rows: Iterable[Mapping[str, Any]], path: Path, columns: pyarrow.Schema | None = None) -> None:
    """As ``write_parquet``, atomically: ``path`` is replaced when all is written, or stays exactly as it was."""
    path = path.resolve()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write_parquet(rows, temporary, columns)
        with storage_errors(path):
            os.replace(temporary, path)
            fsync_directory(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    source = row["source"]
    return {
        **{name: _text(value) for name, value in row.items()},
        "source_bytes": None if _is_unicode(source) else os.fsencode(source),
    }


def _text(value: Any) -> Any:
    """The same with all text as UTF-8 can have it."""
    if isinstance(value, str):
        return value if _is_unicode(value) else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_text(item) for item in value]
    return {name: _text(item) for name, item in value.items()} if isinstance(value, dict) else value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
