"""``resight embed``: the network's own description of pictures, and which pictures are alike by it. No PyTorch."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.commands.extras import need
from resight.commands.outputs import check_outputs
from resight.commands.predict import Images, find_sources, resolve_run, run_and_sources
from resight.errors import ImageError, UsageError
from resight.images import printable
from resight.inference import (
    AUTO,
    BATCH,
    Choice,
    Prediction,
    Predictor,
    Reference,
    Source,
    check_backend,
    parquet,
    unit,
)
from resight.runs import Run
from resight.runs.storage import write_atomic
from resight.samples.cells import join


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Of the N pictures that could be read. embeddings: float32 (N, D). sources: names, exact. labels: the most
    probable class of each; of a multi-label Run all that are answered, as in a table; of a Run without classes, empty.
    unknown: whether each is unlike the training data; None where the Run cannot tell.
    errors: the others, each with its reason. choice: which backend answered, and why.
    """

    embeddings: NDArray[np.float32]
    sources: tuple[str, ...]
    labels: tuple[str, ...]
    unknown: NDArray[np.bool_] | None
    errors: tuple[Prediction, ...]
    choice: Choice

    def save(self, path: str | Path) -> None:
        """Write a NumPy file (.npz) with embeddings, sources, labels and, where known, unknown, atomically; it holds
        no pickle: ``np.load(path)``. Or a Parquet file (.parquet): ``embedding_schema`` in
        :mod:`resight.inference.parquet`. Raises UsageError for another ending or what is no regular file, MissingExtra,
        StorageError.
        """
        path = check_out(Path(path))
        if path.suffix.lower() == ".parquet":
            parquet.save(self._rows(), path, parquet.embedding_schema(self.embeddings.shape[1]))
            return
        arrays: dict[str, Any] = {"embeddings": self.embeddings, "sources": _texts(self.sources)}
        arrays["labels"] = _texts(self.labels)
        if self.unknown is not None:
            arrays["unknown"] = self.unknown
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomic(path.resolve(), buffer.getvalue())

    def _rows(self) -> Iterator[dict[str, Any]]:
        unknown: Sequence[bool | None] = [None] * len(self.sources) if self.unknown is None else self.unknown.tolist()
        for source, label, unlike, embedding in zip(self.sources, self.labels, unknown, self.embeddings, strict=True):
            yield {"source": source, "label": label, "unknown": unlike, "embedding": embedding}


@dataclass(frozen=True)
class Similar:
    """A picture that is like another. source: its name. label: its class in the training data, or of a picture that
    was given the most probable one. cosine: similarity of the embeddings, -1 … 1.
    """

    source: str
    label: str
    cosine: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SimilarResult:
    """found: best first. errors: pictures that could not be read. choice: which backend answered, and why."""

    found: tuple[Similar, ...]
    errors: tuple[Prediction, ...]
    choice: Choice


def embed(
    run: Run | str | Path,
    images: Images,
    *,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    batch: int = BATCH,
) -> Embeddings:
    """The embedding of each picture; the arguments are those of ``resight.predict``.

    Raises what ``resight.predict`` raises; UsageError when not one picture could be read.
    """
    check_backend(backend)
    opened, sources = run_and_sources(run, images, embeds=True)
    how: dict[str, Any] = {"artifact": artifact, "backend": backend, "threads": threads, "batch": batch}
    predictor = Predictor(opened, pictures=len(sources), embeds=True, **how)
    return _embedded(predictor, sources)


def similar(
    run: Run | str | Path,
    image: Source | str,
    images: Images | None = None,
    *,
    top: int = 5,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    batch: int = BATCH,
) -> SimilarResult:
    """The pictures most like ``image``.

    images: among which to look; None: the training pictures that the Run carries (at most 4,096). ``image`` itself, if
    it is among them as the same file, is left out. Raises what ``embed`` raises, ImageError for an ``image`` that
    cannot be read, RunError for a Run that carries no training pictures.
    """
    if type(top) is not int or top < 1:
        raise UsageError(f"top is {top!r}; expected a whole number, 1 or more")
    check_backend(backend)
    (wanted,) = _one(image)
    opened, sources = (
        (resolve_run(run, embeds=True), []) if images is None else run_and_sources(run, images, embeds=True)
    )
    how: dict[str, Any] = {"artifact": artifact, "backend": backend, "threads": threads, "batch": batch}
    predictor = Predictor(opened, pictures=len(sources) + 1, embeds=True, **how)
    reference = predictor.reference if images is None else None
    others = [source for source in sources if not _same(source, wanted)]
    if reference is None and not others:
        raise UsageError("the only picture given is the one to compare with", hint="name others, or none at all")
    ((answer, embedding),) = predictor.embed([wanted])
    if embedding is None:
        raise ImageError(answer.error or "", source=answer.source)
    errors: tuple[Prediction, ...] = ()
    if reference is not None:
        names, labels = reference.sources, _named(reference, opened.classes)
        cosines = reference.cosines(embedding)
    else:
        found = _embedded(predictor, others)
        names, labels, errors = found.sources, found.labels, found.errors
        cosines = unit(found.embeddings) @ unit(embedding[None])[0]
    best = np.argsort(-cosines, kind="stable")[:top]
    rows = tuple(Similar(names[k], labels[k], float(np.clip(cosines[k], -1, 1))) for k in best)
    return SimilarResult(rows, errors, predictor.choice)


def check_out(path: Path) -> Path:
    """Raises UsageError unless the name ends in .npz or .parquet and what is there, if anything, is a regular file;
    MissingExtra for Parquet without pyarrow.
    """
    if path.suffix.lower() not in (".npz", ".parquet"):
        raise UsageError(
            f"{printable(str(path))} does not end in .npz or .parquet",
            hint="embeddings are written as NumPy or Parquet files",
        )
    if path.suffix.lower() == ".parquet":
        need("Parquet", "parquet", "pyarrow")
    check_outputs({"--out": path})
    return path


def table(found: Sequence[Similar]) -> list[str]:
    """Lines for a terminal: source, class, cosine."""
    rows = [(printable(item.source), printable(item.label), f"{item.cosine:.3f}") for item in found]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return [f"{source:{widths[0]}}  {label:{widths[1]}}  {cosine:>6}" for source, label, cosine in rows]


def _one(image: Source | str) -> list[Source]:
    found = find_sources(image)
    if len(found) != 1:
        raise UsageError(f"{printable(str(image))} is {len(found)} pictures; expected one to compare with")
    return found


def _same(source: Source, wanted: Source) -> bool:
    return isinstance(source, Path) and isinstance(wanted, Path) and source.resolve() == wanted.resolve()


def _embedded(predictor: Predictor, sources: list[Source]) -> Embeddings:
    rows, answers, errors = [], [], []
    for answer, embedding in predictor.embed(sources):
        if embedding is None:
            errors.append(answer)
        else:
            rows.append(embedding)
            answers.append(answer)
    if not rows:
        raise UsageError(
            f"none of {len(sources)} pictures could be read"
            + "".join(f"\n  {printable(e.source)}: {printable(e.error or '')}" for e in errors)
        )
    return Embeddings(
        embeddings=np.stack(rows),
        sources=tuple(answer.source for answer in answers),
        labels=tuple(_label(answer) for answer in answers),
        unknown=None if answers[0].unknown is None else np.array([bool(answer.unknown) for answer in answers]),
        errors=tuple(errors),
        choice=predictor.choice,
    )


def _label(answer: Prediction) -> str:
    """The class that is answered; of a multi-label Run all of them, as in a table, empty for none."""
    return answer.label or "" if answer.labels is None else join(name for name, _ in answer.labels)


def _named(reference: Reference, classes: Sequence[str]) -> tuple[str, ...]:
    """What the training pictures have: a class each, or several names as in a table."""
    if not classes:  # of a Run that was pretrained without labels
        return ("",) * len(reference.sources)
    if reference.labels.ndim == 1:
        return tuple(classes[k] for k in reference.labels)
    return tuple(join(classes[k] for k in np.flatnonzero(row).tolist()) for row in reference.labels)


def _texts(names: tuple[str, ...]) -> NDArray[np.str_]:
    return np.array(names, dtype=np.str_)
