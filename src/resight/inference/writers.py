"""Predictions as text: table, JSON, JSON lines, CSV. Streamed: each picture's text as soon as it is answered.

Names of files and classes are strangers' text. JSON and CSV give them back exactly and still cannot do harm:

- **JSON**: control, invisible and direction characters are written as ``\\uNNNN``, which every reader undoes.
- **CSV**: a cell that a spreadsheet could take for a formula (it starts with ``=``, ``+``, ``-``, ``@``,
their
  full-width forms, tab or a line break) gets an apostrophe in front; so does one that starts with an
  apostrophe. :func:`unescape_cell` undoes both. Text is quoted, numbers are not; UTF-8, lines end with
  ``\\n``.
- **table** is for people: such characters are shown as escapes, and are not meant to be read back.
- Names that are not valid UTF-8 keep their bytes in CSV (read with ``errors="surrogateescape"``) and are lone
  surrogates in JSON.

Probabilities and scores are float32, in the fewest digits that give the same float32 again.
"""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from resight.errors import UsageError
from resight.images import printable
from resight.runs.storage import fsync_directory, storage_errors, write_file
from resight.samples.cells import join

if TYPE_CHECKING:
    from resight.inference.prediction import Prediction

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
_HARMFUL = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_WIDEST = 60
_UNKNOWN = {None: None, True: "true", False: "false"}


def csv_text(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Columns: source, label, probability, error, unknown (true, false, or nothing where the Run cannot tell), score,
    threshold, then class_1, p_1, class_2, p_2, … of the best classes. Of a multi-label Run ``labels`` comes after
    threshold: the names that are answered, as in a table of data (:mod:`resight.samples.cells`), empty for none. Of an
    adaptive artefact ``route`` comes there: which of its graphs answered; of one that looks at some tiles only,
    ``looked`` and ``tiles``: at how many, of how many.

    As many of these as the first picture with an answer has; where there is none, those columns are missing.
    """
    queue = iter(predictions)
    leading = []  # pictures without an answer, up to the first one with an answer: that one tells the width
    for prediction in queue:
        leading.append(prediction)
        if prediction.top:
            break
    width = len(leading[-1].top) if leading else 0
    names = [name for k in range(1, width + 1) for name in (f"class_{k}", f"p_{k}")]
    multi = bool(leading) and leading[-1].labels is not None
    adaptive = bool(leading) and leading[-1].route is not None
    heads = ["source", "label", "probability", "error", "unknown", "score", "threshold"]
    some = bool(leading) and leading[-1].tiles is not None
    heads += [*(["labels"] if multi else []), *(["route"] if adaptive else []), *(["looked", "tiles"] if some else [])]
    heads += names
    yield csv_row(heads)
    for group in (leading, queue):
        for prediction in group:
            cells: list[str | float | None] = [prediction.source, prediction.label]
            cells += [prediction.probability, prediction.error]
            cells.append(_UNKNOWN[prediction.unknown])
            cells += [prediction.score.value, prediction.score.threshold] if prediction.score else [None, None]
            if multi:
                cells.append(join(name for name, _ in prediction.labels or ()))
            if adaptive:
                cells.append(prediction.route)
            if some:
                cells += prediction.tiles or (None, None)
            cells += [cell for pair in prediction.top for cell in pair]
            yield csv_row(cells + [None] * (len(heads) - len(cells)))


def json_text(predictions: Iterable[Prediction]) -> Iterator[str]:
    """An array with an object for each picture, one a line."""
    before = "[\n"
    for prediction in predictions:
        yield before + _json(prediction)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def jsonl_text(predictions: Iterable[Prediction]) -> Iterator[str]:
    """An object for each picture, one a line."""
    for prediction in predictions:
        yield _json(prediction) + "\n"


def table_text(predictions: Iterable[Prediction], ahead: int = 32) -> Iterator[str]:
    """A line for each picture: source, best class, its probability, the next best. Aligned by the first
    ``ahead``. Of a picture unlike the training data the class is ``unknown (class?)``. Of a multi-label Run: source,
    all classes that are answered, each with its probability, or ``none``, then the next best in brackets.
    """
    queue = iter(predictions)
    first = list(islice(queue, ahead))
    sources = max([_width(printable(p.source)) for p in first], default=0)
    labels = max([_width(_label(p)) for p in first], default=0)
    sources, labels = min(sources, _WIDEST), min(labels, _WIDEST)
    for group in (first, queue):
        for prediction in group:
            source = _padded(printable(prediction.source), sources)
            if prediction.error is not None:
                yield f"{source}  error: {printable(prediction.error)}\n"
                continue
            label = _padded(_label(prediction), labels)
            if prediction.labels is not None:
                yield f"{source}  {label}  {_rest(prediction)}".rstrip() + "\n"
                continue
            others = ", ".join(f"{printable(name)} {_percent(p)}" for name, p in prediction.top[1:])
            yield f"{source}  {label}  {_percent(prediction.probability or 0.0):>7}  {others}".rstrip() + "\n"


FORMATS: dict[str, Callable[[Iterable[Prediction]], Iterator[str]]] = {
    "table": table_text,
    "json": json_text,
    "jsonl": jsonl_text,
    "csv": csv_text,
}


def write(
    predictions: Iterable[Prediction], format: str, out: Path | None = None, *, stream: TextIO | None = None
) -> None:
    """Write ``predictions`` in one of ``FORMATS`` to the file ``out`` (atomically), or else to ``stream``.

    Raises UsageError for an unknown format, for neither or both of ``out`` and ``stream``; what ``save``
    raises.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no format {printable(format)!r}; expected one of {', '.join(FORMATS)}")
    if (out is None) == (stream is None):
        raise UsageError("give either a file or a stream to write to")
    text = FORMATS[format](predictions)
    if out is not None:
        save(text, out)
    elif stream is not None:
        send(text, stream)


def save(text: Iterable[str], path: Path) -> None:
    """Write the pieces of ``text`` to ``path`` as UTF-8: all of it, or ``path`` stays exactly as it was.

    It is checked that the place is writable before the first piece is asked for. A link is followed. Raises
    StorageError when writing fails (disk full, read-only), UsageError for what is not a regular file.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise UsageError(f"{printable(str(path))} is not a regular file", hint="give the name of a file to write")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    pieces = _Pieces(text)
    try:
        with storage_errors(path):
            write_file(temporary, pieces.write)
            if pieces.error is None:
                os.replace(temporary, path)
                fsync_directory(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    if pieces.error is not None:
        raise pieces.error


class _Pieces:
    """Writes text piece by piece, and keeps what making the text raised apart from what writing it raised."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text = iter(text)
        self.error: Exception | None = None

    def write(self, file: Any) -> None:
        while True:
            try:
                piece = next(self._text)
            except StopIteration:
                return
            except Exception as error:
                self.error = error
                return
            file.write(_encoded(piece))


def send(text: Iterable[str], stream: TextIO) -> None:
    """Write the pieces of ``text`` to an open stream, each at once; as UTF-8 where it has a binary buffer."""
    buffer = getattr(stream, "buffer", None)
    stream.flush()
    for piece in text:
        if buffer is None:
            stream.write(piece)
        else:
            buffer.write(_encoded(piece))
        stream.flush()


def escape_cell(text: str) -> str:
    """A CSV cell that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith((*_FORMULA, "'")) else text


def unescape_cell(cell: str) -> str:
    """The inverse of :func:`escape_cell`."""
    return cell.removeprefix("'")


def csv_row(cells: Sequence[str | float | None]) -> str:
    """One line of CSV. Floats are taken for float32, whole numbers stay whole, None is an empty cell."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow([_cell(cell) for cell in cells])
    return line.getvalue()


def _cell(cell: str | float | None) -> str | float:
    if cell is None:
        return ""
    if isinstance(cell, int):
        return cell
    return escape_cell(cell) if isinstance(cell, str) else _number(cell)


def _number(value: float) -> float:
    return float(str(np.float32(value)))


def _json(prediction: Prediction) -> str:
    return dump_json(plain(prediction))


def plain(prediction: Prediction) -> dict[str, Any]:
    """What JSON holds for one picture: plain values, in their order."""
    values: dict[str, Any] = {
        "source": prediction.source,
        "label": prediction.label,
        "probability": None if prediction.probability is None else _number(prediction.probability),
        "top": [{"class": name, "probability": _number(p)} for name, p in prediction.top],
        "error": prediction.error,
        "unknown": prediction.unknown,
        "score": None,
    }
    if prediction.labels is not None:
        values["labels"] = [{"class": name, "probability": _number(p)} for name, p in prediction.labels]
    if prediction.route is not None:
        values["route"] = prediction.route
    if prediction.tiles is not None:
        values["tiles"] = dict(zip(("looked", "all"), prediction.tiles, strict=True))
    if prediction.score is not None:
        value, limit = map(_number, (prediction.score.value, prediction.score.threshold))
        values["score"] = {"name": prediction.score.name, "value": value, "threshold": limit}
    return values


def dump_json(plain: Any, *, indent: int | None = None) -> str:
    """JSON that is safe to show: control and direction characters, and bytes that are no UTF-8, as escapes."""
    text = json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False)
    if text.isascii() and "\x7f" not in text:
        return text
    # of these JSON's own syntax has the line break only, so the others stand inside of strings
    return "".join(json.dumps(c)[1:-1] if c != "\n" and unicodedata.category(c) in _HARMFUL else c for c in text)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _label(prediction: Prediction) -> str:
    label = printable(prediction.label or "")
    if prediction.labels is not None:
        label = ", ".join(f"{printable(name)} {_percent(p)}" for name, p in prediction.labels) or "none"
    return f"unknown ({label}?)" if prediction.unknown else label


def _rest(prediction: Prediction) -> str:
    """The best classes that were not answered, in brackets."""
    answered = {name for name, _ in prediction.labels or ()}
    others = [f"{printable(name)} {_percent(p)}" for name, p in prediction.top if name not in answered]
    return f"(not: {', '.join(others)})" if others else ""


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Terminal columns: two for wide characters, none for combining marks."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.category(c) in ("Mn", "Me") for c in text)
