"""What is answered for one picture, and for many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from resight.inference import parquet, writers


@dataclass(frozen=True)
class Unlikeness:
    """How unlike the training data a picture is: ``value`` of the score ``name``, higher is more unlike; above
    ``threshold`` the picture is called unknown.
    """

    name: str
    value: float
    threshold: float

    @property
    def unknown(self) -> bool:
        return self.value > self.threshold


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture, or why there is none.

    source: the path as it was given, exactly; for bytes and arrays ``#`` and the position from 0. label:
    the most probable class. probability: of that class, 0 … 1, a float32 as float. top: (class,
    probability) of the best classes, best first; of equal ones the earlier class. error: for a picture that
    cannot be used, the reason in plain words; then label and probability are None and top is empty. unknown: whether
    the picture is unlike the Run's training data, by its ``score``: then label and probability are what the network
    says, and mean little. Both are None where the Run cannot tell (imported weights, earlier Runs), and for errors.

    labels: of a multi-label Run the answer: (class, probability) of all classes from their thresholds on, most probable
    first, perhaps none; None of other Runs, and for errors. ``label`` is then the most probable class, given or not.

    route: which of several graphs answered, where an adaptive artefact did; else None. tiles: where an artefact looks
    at some tiles of a picture only, at how many it looked, and how many there are; else None.
    """

    source: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    unknown: bool | None = None
    score: Unlikeness | None = None
    labels: tuple[tuple[str, float], ...] | None = None
    route: str | None = None
    tiles: tuple[int, int] | None = None


class Predictions(Sequence[Prediction]):
    """All answers, in the order of the pictures. Printed, it is a table."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self._all = tuple(predictions)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self._all)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        return Predictions(self._all[index]) if isinstance(index, slice) else self._all[index]

    @property
    def errors(self) -> Predictions:
        """Those without an answer."""
        return Predictions(prediction for prediction in self._all if prediction.error is not None)

    def to_csv(self, path: str | Path) -> None:
        """Write a CSV file, atomically; its rules: :mod:`resight.inference.writers`. Raises StorageError."""
        writers.save(writers.csv_text(self), Path(path))

    def to_json(self, path: str | Path) -> None:
        """Write a JSON array of objects, atomically. Raises StorageError."""
        writers.save(writers.json_text(self), Path(path))

    def to_jsonl(self, path: str | Path) -> None:
        """Write one JSON object a line, atomically. Raises StorageError."""
        writers.save(writers.jsonl_text(self), Path(path))

    def to_parquet(self, path: str | Path) -> None:
        """Write a Parquet file, atomically; its columns: :mod:`resight.inference.parquet`. Raises StorageError,
        MissingExtra.
        """
        columns = parquet.schema(
            route=any(prediction.route is not None for prediction in self),
            tiles=any(prediction.tiles is not None for prediction in self),
        )
        parquet.save((writers.plain(prediction) for prediction in self), Path(path), columns)

    def to_text(self) -> str:
        """A table for a terminal."""
        return "".join(writers.table_text(self))

    def __repr__(self) -> str:
        return f"Predictions({len(self)} pictures, {len(self.errors)} errors)\n{self[:20].to_text()}"
