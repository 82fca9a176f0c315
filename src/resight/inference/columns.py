"""A Predictor for columns of pictures, as Ray Data's ``map_batches`` and others like it call one. Imports no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.images import printable
from resight.inference.backend import AUTO
from resight.inference.predictor import BATCH, Predictor
from resight.inference.sources import Source
from resight.inference.writers import plain
from resight.runs import Run

Columns = dict[str, NDArray[Any]]
ADDED = ("label", "probability", "top", "labels", "unknown", "score", "error")
"""The columns that are added: what JSON says of a picture, but for ``source``."""


class BatchPredictor:
    """Opens a Run once, then answers batch by batch: ``dict[str, array] → dict[str, array]``.

        pictures.map_batches(
            resight.BatchPredictor, fn_constructor_args=("runs/flowers",), fn_constructor_kwargs={"column": "path"},
            compute=ray.data.ActorPoolStrategy(size=4), batch_size=64,
        )

    run: a Run or its directory, which every machine must see. column: which column has the pictures: paths (str),
    encoded pictures (bytes), or decoded ones, uint8 (N, H, W, C), or N arrays uint8 (H, W) or (H, W, C). prefix: goes
    before the names of added columns, where the batch has such names already. threads: as many processors as the
    caller is given (``num_cpus`` of Ray). top, artifact, backend, batch: as of ``resight.predict``.

    The batch comes back with these columns more, each of N values, the same as ``resight.predict`` gives for these
    pictures: ``label`` (str), ``probability`` (float32, NaN for an error), ``top`` (a list of
    ``{"class", "probability"}``, best first), ``labels`` (the same, None for a Run that answers with one class),
    ``unknown`` (bool, None where the Run cannot tell), ``score`` (``{"name", "value", "threshold"}`` or None), and
    ``error`` (str, None for an answer): a picture that cannot be used does not stop the others. With an adaptive
    artefact also ``route``, which of its graphs answered, or ``tiles``, ``{"looked", "all"}``.

    Pickled, it is its arguments: whoever unpickles it opens the Run anew.

    Raises what ``Predictor`` raises; when called UsageError for a batch without the column, with a column that would be
    replaced, or with a column of other values.
    """

    def __init__(
        self,
        run: Run | str | Path,
        *,
        column: str = "path",
        top: int = 5,
        prefix: str = "",
        artifact: str | None = None,
        backend: str = AUTO,
        threads: int = 1,
        batch: int = BATCH,
    ) -> None:
        if type(top) is not int or top < 1:
            raise UsageError(f"top is {top!r}; expected a whole number, 1 or more")
        opened = run if isinstance(run, Run) else Run.open(run, verify=False)
        self._arguments: dict[str, Any] = {
            "column": column,
            "top": top,
            "prefix": prefix,
            "artifact": artifact,
            "backend": backend,
            "threads": threads,
            "batch": batch,
        }
        self.predictor = Predictor(opened, artifact=artifact, backend=backend, threads=threads, batch=batch)
        self.column, self.top, self.prefix = column, top, prefix

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> Columns:
        """The same columns, and those that are added."""
        if self.column not in batch:
            there = ", ".join(printable(name) for name in batch)
            raise UsageError(f"there is no column {printable(self.column)!r}, only {there}", hint="say column=…")
        added_names = (*ADDED, *self.predictor.told)
        names = [self.prefix + name for name in added_names]
        if taken := [name for name in names if name in batch]:
            raise UsageError(
                f"the batch has a column {printable(taken[0])!r} already, which would be replaced",
                hint="give a prefix, such as prefix='predicted_'",
            )
        answers = [plain(found) for found in self.predictor.predict(_sources(batch[self.column]), self.top)]
        added = {name: _column([answer.get(name) for answer in answers]) for name in added_names}
        added["probability"] = np.array(
            [np.nan if answer["probability"] is None else answer["probability"] for answer in answers], np.float32
        )
        return {**batch, **{self.prefix + name: values for name, values in added.items()}}

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (str(self.predictor.run.path.resolve()), self._arguments)


def _again(run: str, arguments: dict[str, Any]) -> BatchPredictor:
    return BatchPredictor(run, **arguments)


def _sources(column: NDArray[Any]) -> list[Source]:
    """One picture a row. Raises UsageError for what is none, by its type."""
    if column.dtype.kind == "S":
        raise UsageError(
            "encoded pictures came as a NumPy array of bytes of one length, which loses zero bytes at their ends",
            hint="give them as an array of objects",
        )
    return [_source(value) for value in column]


def _source(value: Any) -> Source:
    if isinstance(value, str):
        return Path(value)
    if isinstance(value, (Path, bytes, np.ndarray)):
        return value
    raise UsageError(f"found {type(value).__name__}; expected a path, bytes or a uint8 array")


def _column(values: list[Any]) -> NDArray[Any]:
    """An array of N objects, whatever these are: NumPy would make more axes of lists."""
    column = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        column[place] = value
    return column
