"""A CSV table of pictures: ``path,label`` and, if wanted, ``split`` and ``group``.

Pictures with any number of labels: ``path,labels``, names separated by ``|`` (:mod:`resight.samples.cells`), or one
column for each class, with 1 where a picture has it and 0 where not. Names of our columns count in any case, so a class
may be called like one of them; its column is refused, not taken for ours (`_check_group`).
"""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

from resight.errors import DataError
from resight.images import printable
from resight.samples import cells
from resight.samples.draft import Draft, Row
from resight.samples.folders import split_name
from resight.samples.model import show_names
from resight.samples.order import natural_key
from resight.samples.walk import check_link

_PATH, _LABEL, _LABELS, _OPTIONAL = "path", "label", "labels", ("split", "group")
_OTHER_SEPARATORS = ";,"
UNLABELLED = "pictures have no label: they count as showing none of the classes"
"""How the warning about them ends; doctor has a finding instead."""


def read_table(table: Path) -> Draft:
    """Read ``table``: UTF-8, with or without a byte order mark, with a header; paths are relative to its
    folder.

    An empty split means train, or the split of its group; an empty group, none. Paths that lead out of the
    folder are refused. Raises ``DataError``, naming the line.
    """
    draft = Draft(table.parent, "csv", [])
    shown = printable(table.name)
    header, lines = _lines(table, shown)
    columns = None if _LABEL in header or _LABELS in header else _class_columns(header)
    draft.task = "single" if _LABEL in header else "multi"
    draft.classes = None if columns is None else tuple(sorted(columns, key=natural_key))
    if columns is not None:
        _check_group(lines, shown)
    real_root = os.path.realpath(draft.root)
    first: dict[str, tuple[int, Row]] = {}
    repeated, missing = [], []
    for line, values in lines:
        row = _row(draft.root, real_root, values, columns, f"{shown}, line {line}")
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
    if draft.task == "multi":
        draft.warnings += _doubts(draft.rows)
    return draft


def _doubts(rows: list[Row]) -> list[str]:
    """What may be meant otherwise in a multi-label table."""
    warnings = []
    bare = sum(not row.labels for row in rows)
    if bare:
        warnings.append(f"{bare:,} of {len(rows):,} {UNLABELLED}")
    names = sorted({name for row in rows for name in row.names})
    joined = [name for name in names if any(mark in name for mark in _OTHER_SEPARATORS)]
    if joined and not any(len(row.names) > 1 for row in rows):
        warnings.append(
            f"no picture has two labels, and these names hold a ; or , while | separates: {show_names(joined)}"
        )
    return warnings


def _lines(table: Path, shown: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header, and each line with its number."""
    try:
        with open(table, encoding="utf-8-sig", errors="strict", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = _header(next(reader, []), shown)
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
            return header, lines
    except UnicodeDecodeError as error:
        raise DataError(f"{shown}: this is not UTF-8 text ({error.reason})", hint="save it as CSV UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{shown}, line {reader.line_num}: this is not valid CSV ({error})") from error
    except OSError as error:
        raise DataError(f"{shown}: the table cannot be read ({error.strerror})") from error


def _header(found: list[str], shown: str) -> list[str]:
    """The names of the columns: our own in lower case, those of classes as they are."""
    known = (_PATH, _LABEL, _LABELS, *_OPTIONAL)
    names = [name.strip() for name in found]
    header = [name.lower() if name.lower() in known else name for name in names]
    given, others = [name for name in (_LABEL, _LABELS) if name in header], _class_columns(header)
    by_class = not given and len(others) > 1 and "" not in others
    wrong = [] if by_class else others
    if _PATH not in header or len(set(header)) != len(header) or len(given) + by_class != 1 or wrong:
        raise DataError(
            f"{shown}: the first line is {printable(','.join(header))!r}; expected a header with the columns "
            "path,label (or path,labels, or path and one column of 0 and 1 for each of two classes or more) and "
            "optionally split,group, in any order, separated by commas",
            hint=f"rename or remove: {show_names(wrong)}" if wrong else None,
        )
    return header


def _class_columns(header: list[str]) -> list[str]:
    return [name for name in header if name not in (_PATH, _LABEL, _LABELS, *_OPTIONAL)]


def _check_group(lines: list[tuple[int, dict[str, str]]], shown: str) -> None:
    """Raises DataError for a column ``group`` that a table of class columns may mean as a class: all 0 and 1. Taken for
    ours it would make two groups of all pictures. (``split`` allows no 0 and 1, ``path`` stands once.)
    """
    cells_of = {values["group"].strip() for _, values in lines if "group" in values}
    if cells_of and cells_of <= {"0", "1"}:
        raise DataError(
            f"{shown}: the column group has 0 and 1 only, as a class has; expected names of groups that stay together",
            hint="rename a class: its column (e.g. group_photo); groups: their cells (e.g. a and b)",
        )


def _labels(values: dict[str, str], columns: list[str] | None, where: str) -> tuple[str, ...]:
    """Of a line of a multi-label table, the classes, in the order of the class list."""
    if columns is None:
        try:
            return tuple(sorted(cells.split(values[_LABELS]), key=natural_key))
        except ValueError as error:
            raise DataError(
                f"{where}: the labels are {printable(values[_LABELS])!r}: {printable(str(error))}",
                hint="separate names by |; leave the cell empty for a picture with no label",
            ) from error
    for name in columns:
        if values[name].strip() not in ("0", "1"):
            raise DataError(
                f"{where}: {printable(name)} is {printable(values[name])!r}; expected 1 where the picture has this "
                "class and 0 where not",
                hint="or give the table the columns path,label (one label each) or path,labels (names separated by |)",
            )
    return tuple(sorted((name for name in columns if values[name].strip() == "1"), key=natural_key))


def _row(root: Path, real_root: str, values: dict[str, str], columns: list[str] | None, where: str) -> Row:
    labels = None if _LABEL in values else _labels(values, columns, where)
    label = values[_LABEL] if labels is None else cells.join(labels)
    if labels is None and not label:
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
        label,
        split,
        values.get("group") or None,
        labels,
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
    return [replace(row, split=row.split or splits.get(row.group or "")) for row in rows]
