"""What is said about one picture's answer, and about many: plain data, for JSON and for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.explaining.faithfulness import Faithfulness
from resight.images import printable


@dataclass(frozen=True, eq=False)
class ClassMap:
    """The map of one class: ``heat`` float32 (h, w) of the network's square, signed where the method is."""

    name: str
    probability: float
    heat: NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """A training picture: its source, its class, and the cosine of the two embeddings, −1 … 1."""

    source: str
    name: str
    cosine: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """The answer for one picture and why, or why there is none.

    source: the path as it was given, exactly; for bytes and arrays ``#`` and the position from 0. label, probability:
    the answer. unknown: whether the picture is unlike the training data, by its ``score``; None where the Run cannot
    tell. labels: of a multi-label Run the answer, as in `resight.inference.Prediction`.
    maps: of the classes asked for, or of the most probable ones; the first is the one that ``picture``, the PNG
    that was written, ``faithfulness`` and ``randomised`` are about. randomised: mean rank correlation with maps of
    networks with random weights; None where it was not asked for or the map is constant. nearest: training pictures,
    most alike first. error: for a picture that cannot be used; then nothing else is there. peak: x, y of the pixel with
    the most evidence, where the picture is cut into tiles; its full map then lies beside ``picture`` as …-map.png.
    route: which of an adaptive artefact's graphs answered; the maps are of that one.
    """

    source: str
    label: str | None = None
    probability: float | None = None
    unknown: bool | None = None
    score: float | None = None
    labels: tuple[tuple[str, float], ...] | None = None
    maps: tuple[ClassMap, ...] = ()
    picture: Path | None = None
    faithfulness: Faithfulness | None = None
    randomised: float | None = None
    verdicts: tuple[tuple[bool, str], ...] = ()
    nearest: tuple[Neighbour, ...] = ()
    error: str | None = None
    peak: tuple[int, int] | None = None
    route: str | None = None

    @property
    def answer(self) -> str:
        """The answer of a multi-label Run in words: each label with its probability, or ``none``."""
        return ", ".join(f"{printable(name)} {100 * p:.1f} %" for name, p in self.labels or ()) or "none"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the arrays."""
        several = [{"class": name, "probability": p} for name, p in self.labels or ()]
        return {
            "source": self.source,
            "label": self.label,
            "probability": self.probability,
            **({} if self.labels is None else {"labels": several}),
            "unknown": self.unknown,
            "score": self.score,
            "classes": [{"class": one.name, "probability": one.probability} for one in self.maps],
            "picture": None if self.picture is None else str(self.picture),
            "faithfulness": None if self.faithfulness is None else _plain(self.faithfulness),
            "randomised_correlation": self.randomised,
            "verdicts": [text for _, text in self.verdicts],
            "nearest": [{"source": n.source, "class": n.name, "cosine": n.cosine} for n in self.nearest],
            "error": self.error,
            **({} if self.peak is None else {"peak": {"x": self.peak[0], "y": self.peak[1]}}),
            **({} if self.route is None else {"route": self.route}),
        }


def _plain(found: Faithfulness) -> dict[str, Any]:
    return {
        "deletion": found.deletion,
        "insertion": found.insertion,
        "random_deletion": float(found.random_deletion.mean()),
        "random_insertion": float(found.random_insertion.mean()),
        "random_maps": len(found.random_deletion),
        "p_value": found.p_value,
        "faithful": found.faithful,
    }


@dataclass(frozen=True, eq=False)
class Explanations:
    """All explanations of one call. ``page``: the HTML file. ``notes``: what was left out, and why."""

    run: Path
    method: str
    page: Path
    items: tuple[Explanation, ...]
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Explanation, ...]:
        """Pictures that could not be used."""
        return tuple(item for item in self.items if item.error is not None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "run": str(self.run),
            "method": self.method,
            "page": str(self.page),
            "notes": list(self.notes),
            "pictures": [item.to_dict() for item in self.items],
        }

    def to_text(self) -> str:
        """For a terminal: each picture's answer, what was written, and whether its map may be relied on."""
        lines = []
        for item in self.items:
            lines.append(f"{printable(item.source)}: {_answer(item)}")
            lines += [f"  {text}" for _, text in item.verdicts]
            if item.picture is not None:
                lines.append(f"  → {printable(str(item.picture))}")
        return "\n".join([*lines, f"page: {printable(str(self.page))}"])


def _answer(item: Explanation) -> str:
    if item.error is not None:
        return printable(item.error)
    label = printable(item.label or "")
    chance = f", {100 * (item.probability or 0):.1f} %"
    if item.labels is not None:
        label, chance = item.answer, ""
    answer = f"{f'unknown ({label}?)' if item.unknown else label}{chance}"
    if item.maps[0].name != item.label:
        answer += f"; the map is for {printable(item.maps[0].name)}, {100 * item.maps[0].probability:.1f} %"
    if item.route is not None:
        answer += f"; answered by {printable(item.route)}"
    return answer
