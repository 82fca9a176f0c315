"""``resight suggest``: which pictures to label next. Needs no PyTorch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.commands.outputs import check_outputs
from resight.commands.predict import Images, find_sources, run_and_sources
from resight.errors import UsageError
from resight.evaluation.choosing import margins, typical, unsure
from resight.images import printable
from resight.inference import AUTO, Prediction, Predictor, only_single
from resight.inference.sources import Source
from resight.runs import Run
from resight.runs.storage import write_atomic

HEADER = ("rank", "source", "stands_for", "answer", "margin")


@dataclass(frozen=True)
class Suggestion:
    """rank: from 1, the first to label. source: its name, exact. stands_for: how many pictures are in its group.
    answer, margin: what the network says, and its probability less the second class's; None without classes.
    """

    rank: int
    source: str
    stands_for: int
    answer: str | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Suggestions:
    """found: best first. pictures: among how many. how: by what they were chosen, in words. errors: the pictures that
    could not be read."""

    found: tuple[Suggestion, ...]
    pictures: int
    how: str
    errors: tuple[Prediction, ...]

    def to_csv(self, path: str | Path) -> None:
        """A table: rank, source, stands_for, answer, margin. Raises StorageError."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADER)
        for item in self.found:
            margin = "" if item.margin is None else f"{item.margin:.4f}"
            writer.writerow([item.rank, item.source, item.stands_for, item.answer or "", margin])
        write_atomic(Path(path).resolve(), text.getvalue().encode("utf-8", "surrogateescape"))

    def to_dict(self) -> dict[str, Any]:
        return {"pictures": self.pictures, "how": self.how, "found": [asdict(item) for item in self.found]}


def suggest(
    data: Images,
    *,
    weights: Run | str | Path,
    count: int = 100,
    labelled: Images | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    backend: str = AUTO,
    threads: int | None = None,
) -> Suggestions:
    """The pictures of ``data`` whose labels would help most, first the best.

    data: files, folders, patterns. weights: a Run that was pretrained without labels (or any other): then typical
    pictures of each kind; or, with a Run that has classes, those that it is unsure of and that are unlike each other.
    labelled: pictures that have labels already: they are not suggested again, nor, without classes, others of their
    kind. out: a CSV file to write.

    Raises UsageError where fewer than ``count`` pictures are there to choose from, and what ``resight.embed`` raises.
    """
    if type(count) is not int or count < 1:
        raise UsageError(f"count is {count!r}; expected a whole number, 1 or more")
    if out is not None:
        check_outputs({"--out": Path(out)})
    opened, sources = run_and_sources(weights, data, embeds=True)
    classes = opened.card.task != "features"
    if classes:
        only_single(opened, "resight suggest")
    given = [] if labelled is None else find_sources(labelled)
    known = {_real(source) for source in given}
    open_ = [source for source in sources if _real(source) not in known]
    _enough(len(open_), count, "without a label")
    every = [*open_, *given]
    predictor = Predictor(opened, backend=backend, threads=threads, pictures=len(every), embeds=True)
    rows, places, margin, answers, errors = _described(predictor, every)
    has = np.array([place >= len(open_) for place in places])
    left = int((~has).sum())
    _enough(left, count, "that can be read")
    if classes:
        chosen = unsure(rows, margin, count, seed, has)
        how = "unsure, and unlike each other (CLUE, Prabhu et al. 2021)"
    else:
        chosen = typical(rows, count, seed, has)
        how = "typical of kinds without a label (TypiClust, Hacohen et al. 2022)"
    sure = margins(margin) if classes else None
    found = tuple(
        Suggestion(
            rank,
            answers[k].source,
            int(size),
            answers[k].label,
            None if sure is None else float(sure[k]),
        )
        for rank, (k, size) in enumerate(
            zip(chosen.positions.tolist(), chosen.stands_for.tolist(), strict=True), start=1
        )
    )
    result = Suggestions(found, left, how, errors)
    if out is not None:
        result.to_csv(out)
    return result


def _described(
    predictor: Predictor, sources: Sequence[Source]
) -> tuple[NDArray[np.float32], list[int], NDArray[np.float32], list[Prediction], tuple[Prediction, ...]]:
    """Of the pictures that can be read: embeddings, positions, the two best probabilities (N, 2), none without classes,
    and answers; and the other pictures.
    """
    rows, places, answers, errors, probabilities = [], [], [], [], []
    for place, (answer, embedding) in enumerate(predictor.embed(sources, top=2)):
        if embedding is None:
            errors.append(answer)
            continue
        rows.append(embedding)
        places.append(place)
        answers.append(answer)
        probabilities.append([share for _, share in answer.top])
    if not rows:
        raise UsageError(f"none of {len(sources):,} pictures could be read")
    return np.stack(rows), places, np.array(probabilities, np.float32), answers, tuple(errors)


def _enough(there: int, count: int, which: str) -> None:
    if there < count:
        hint = f"--count {there}" if there else "give other pictures"
        raise UsageError(f"{count:,} pictures are to be chosen of {there:,} {which}", hint=hint)


def _real(source: Source) -> Any:
    return source.resolve() if isinstance(source, Path) else id(source)


def table(found: Sequence[Suggestion]) -> list[str]:
    """Lines for a terminal."""
    width = max(len(printable(item.source)) for item in found)
    lines = []
    for item in found:
        doubt = "" if item.margin is None else f"  {printable(item.answer or '')} by {100 * item.margin:.0f} points"
        lines.append(f"{item.rank:>4}  {printable(item.source):{width}}  stands for {item.stands_for:,}{doubt}")
    return lines
