"""A CSV table of pictures: ``path,label`` and, if wanted, ``split`` and ``group``."""

from __future__ import annotations

import csv
import os
from pathlib import Path, PurePosixPath

from resight.errors import DataError
from resight.images import printable
from resight.samples.draft import Draft, Row
from resight.samples.folders import split_name
from resight.samples.model import show_names
from resight.samples.walk import check_link

_REQUIRED, _OPTIONAL = ("path", "label"), ("split", "group")


def read_table(table: Path) -> Draft:
    """Read ``table``: UTF-8, with or without a byte order mark, with a header; paths are relative to its
    folder.

    An empty split means train, or the split of its group; an empty group, none. Paths that lead out of the
    folder are refused. Raises ``DataError``, naming the line.
    """
    draft = Draft(table.parent, "csv", [])
    shown = printable(table.name)
    real_root = os.path.realpath(draft.root)
    first: dict[str, tuple[int, Row]] = {}
    repeated, missing = [], []
    for line, values in _lines(table, shown):
        row = _row(draft.root, real_root, values, f"{shown}, line {line}")
        if row.source in first:
            earlier_line, earlier = first[row.source]
            if (row.label, row.split, row.group) != (earlier.label, earlier.split, earlier.group):
                raise DataError(
                    f"{shown}, line {line}: {printable(row.source)} is there already, in line "
                    f"{earlier_line}, "
                    "with another label, split or group",
                    hint="keep one of the two lines",
                )
            repeated.append(row.source)
            continue
        first[row.source] = (line, row)
        if not (draft.root / row.source).is_file():
            missing.append(f"line {line}: {row.source}")
    if missing:
        raise DataError(
            f"{shown}: {len(missing):,} of {len(first):,} files do not exist: {show_names(missing)}",
            hint=f"paths are relative to {printable(str(table.parent))}",
        )
    draft.rows = _splits_of_groups([row for _, row in first.values()], shown)
    if repeated:
        draft.warnings.append(f"{len(repeated):,} repeated lines count once: {show_names(repeated, 3)}")
    return draft


def _lines(table: Path, shown: str) -> list[tuple[int, dict[str, str]]]:
    try:
        with open(table, encoding="utf-8-sig", errors="strict", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            _check_header(header, shown)
            lines = []
            for values in reader:
                if not values:
                    continue
                if len(values) != len(header):
                    raise DataError(
                        f"{shown}, line {reader.line_num}: found {len(values)} fields; expected "
                        f"{len(header)} "
                        f"({','.join(header)})",
                        hint="put a field that contains a comma into double quotes",
                    )
                lines.append((reader.line_num, dict(zip(header, values, strict=True))))
            return lines
    except UnicodeDecodeError as error:
        raise DataError(f"{shown}: this is not UTF-8 text ({error.reason})", hint="save it as CSV UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{shown}, line {reader.line_num}: this is not valid CSV ({error})") from error
    except OSError as error:
        raise DataError(f"{shown}: the table cannot be read ({error.strerror})") from error


def _check_header(header: list[str], shown: str) -> None:
    allowed = (*_REQUIRED, *_OPTIONAL)
    wrong = [name for name in header if name not in allowed]
    if any(name not in header for name in _REQUIRED) or len(set(header)) != len(header) or wrong:
        raise DataError(
            f"{shown}: the first line is {printable(','.join(header))!r}; expected a header with the columns "
            "path,label and optionally split,group, in any order, separated by commas",
            hint=f"rename or remove: {show_names(wrong)}" if wrong else None,
        )


def _row(root: Path, real_root: str, values: dict[str, str], where: str) -> Row:
    if not values["label"]:
        raise DataError(f"{where}: the label is empty", hint="write a label, or remove the line")
    split = None
    if values.get("split", "").strip():
        split = split_name(values["split"])
        if split is None:
            raise DataError(
                f"{where}: the split is {printable(values['split'])!r}; expected train, val, test or nothing"
            )
    return Row(
        _source(root, real_root, values["path"], where),
        None,
        values["label"],
        split,
        values.get("group") or None,
    )


def _source(root: Path, real_root: str, path: str, where: str) -> str:
    if not path or "\x00" in path:
        raise DataError(f"{where}: the path is empty or contains a null character")
    relative = path
    if os.path.isabs(path):
        relative = os.path.relpath(path, root.absolute())
    source = PurePosixPath(os.path.normpath(relative)).as_posix()
    if source.split("/")[0] == ".." or os.path.isabs(source):
        raise DataError(
            f"{where}: {printable(path)} is outside {printable(str(root))}, the folder of the table",
            hint="keep the table beside or above its pictures, and use paths relative to it",
        )
    file = root / source
    if os.path.realpath(file) != os.path.join(real_root, *source.split("/")) and file.exists():
        check_link(file, root)
    return source


def _splits_of_groups(rows: list[Row], shown: str) -> list[Row]:
    """Refuse groups that cross splits; give rows without a split that of their group."""
    splits: dict[str, str] = {}
    for row in rows:
        if row.group is None or row.split is None:
            continue
        if splits.setdefault(row.group, row.split) != row.split:
            raise DataError(
                f"{shown}: the group {printable(row.group)!r} is in both {splits[row.group]} and {row.split}",
                hint="a group must stay within one split: correct the table",
            )
    return [Row(row.source, row.index, row.label, row.split or splits.get(row.group or ""), row.group) for row in rows]
