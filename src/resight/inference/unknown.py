"""Is a picture unlike the training data? A score of its embedding, and the reference that it is compared with.

The score, ``knn-whitened``: scaled to length 1, the embedding's distance to the k-th nearest of a bank of training
pictures (Sun et al. 2022), in the metric of the covariance that they have within their classes (Lee et al. 2018:
Mahalanobis). **Higher is more unlike.** It was chosen among twelve by ``benchmarks/unknown.py``; docs/unknown.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from resight.errors import RunError
from resight.evaluation import Estimate, wilson
from resight.inference.answers import Answers
from resight.inference.within import deviations
from resight.runs import REFERENCE, Run
from resight.runs.plain_json import read_json

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SCORE = "knn-whitened"
ROUTED = "knn-whitened-by-route"
"""Of an adaptive artefact: the same of the graph that answered, in that graph's unit (`resight.adapting.unknown`)."""
NEIGHBOURS = 5
KEPT = 0.95
"""The share of validation pictures that the threshold keeps."""
MOST_PICTURES, MOST_NUMBERS = 4096, 1 << 21
_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Reference:
    """Training pictures that others are compared with: N of them, their embeddings of D numbers.

    bank: (N, D) float16, embeddings of length 1. centre: (D,) float32, their mean. whitening: (D, D) float32, W with
    W Wᵀ the inverse covariance within the classes. whitened: (N, D) float16, (bank - centre) W. labels: (N,) int64,
    positions in the Run's classes; of a multi-label Run uint8 (N, K), 1 for each label. indices: (N,) int64, positions
    in the data set. sources: N names, exact;
    ``file[index]`` for array files.
    """

    bank: NDArray[np.float16]
    centre: Floats
    whitening: Floats
    whitened: NDArray[np.float16]
    labels: Ints | NDArray[np.uint8]
    indices: Ints
    sources: tuple[str, ...]

    @classmethod
    def fit(
        cls, embeddings: Floats, labels: Ints | NDArray[np.uint8], indices: Ints, sources: Sequence[str]
    ) -> Reference:
        """Of N ≥ 1 training pictures; embeddings float32 (N, D)."""
        rows = unit(embeddings)
        centre, matrix = rows.mean(axis=0), whitening(rows, labels)
        limit = float(np.finfo(np.float16).max)
        white = np.clip((rows - centre) @ matrix, -limit, limit).astype(np.float16)
        return cls(rows.astype(np.float16), centre, matrix, white, labels, indices, tuple(sources))

    def scorer(self, k: int) -> Scorer:
        return Scorer(self.centre, self.whitening, self.whitened.astype(np.float32), k)

    def cosines(self, embedding: Floats) -> Floats:
        """float32 (N,), in -1 … 1: similarity of each training picture to one embedding (D,)."""
        found: Floats = self.bank.astype(np.float32) @ unit(embedding[None])[0]
        return found

    def to_bytes(self) -> bytes:
        """A safetensors file. Names are JSON in its header, in ASCII: they need not be valid UTF-8."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _SHAPES}
        return save_tensors(arrays, metadata={"sources": json.dumps(self.sources)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Reference:
        """Raises ValueError for anything that ``to_bytes`` did not make."""
        try:
            arrays = load_tensors(data)
            header = read_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
            sources = read_json(header["__metadata__"]["sources"])
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"not a reference ({error})") from error
        if arrays.keys() != _SHAPES.keys() or arrays["bank"].ndim != 2:
            raise ValueError(f"it holds {', '.join(sorted(arrays)) or 'nothing'}; expected {', '.join(_SHAPES)}")
        sizes = dict(zip("ND", arrays["bank"].shape, strict=True))
        expected = dict(_SHAPES)
        if arrays["labels"].ndim == 2:
            expected["labels"], sizes["K"] = (np.uint8, "NK"), arrays["labels"].shape[1]
        for name, (kind, axes) in expected.items():
            shape = tuple(sizes[axis] for axis in axes)
            if arrays[name].dtype != kind or arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise ValueError(f"its {name} is {arrays[name].dtype} {arrays[name].shape}; expected finite {shape}")
        if sizes["N"] > bank_size(max(1, sizes["D"])):  # more would cost every answer time and memory
            raise ValueError(f"it holds {sizes['N']:,} pictures of {sizes['D']:,} numbers: more than any Run writes")
        if not isinstance(sources, list) or len(sources) != sizes["N"] or 0 in sizes.values():
            raise ValueError(f"it does not name its {sizes['N']} pictures")
        if not all(isinstance(source, str) for source in sources):
            raise ValueError("it names pictures by something else than text")
        return cls(**arrays, sources=tuple(sources))


_SHAPES = {
    "bank": (np.float16, "ND"),
    "centre": (np.float32, "D"),
    "whitening": (np.float32, "DD"),
    "whitened": (np.float16, "ND"),
    "labels": (np.int64, "N"),
    "indices": (np.int64, "N"),
}


class Scorer:
    """Distances to the k-th nearest of ``bank`` (N, D), which is centred and whitened; of fewer than k, to the last."""

    def __init__(self, centre: Floats, matrix: Floats, bank: Floats, k: int) -> None:
        self._centre, self._matrix, self._bank = centre, matrix, bank
        self._half = (bank * bank).sum(axis=1) / 2
        self._count = min(k, len(bank))

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return len(self._matrix)

    def __call__(self, embeddings: Floats) -> Floats:
        """(M, D) float32 → (M,) float32, ≥ 0. One matrix product finds the neighbours of up to 256 at a time; the
        distances to these few are then computed without its rounding.
        """
        found = np.empty(len(embeddings), np.float32)
        for start in range(0, len(embeddings), _AT_ONCE):
            rows = (unit(embeddings[start : start + _AT_ONCE]) - self._centre) @ self._matrix
            order = self._half - rows @ self._bank.T  # half the squared distance, up to what all of a row share
            near = self._bank[np.argpartition(order, self._count - 1, axis=1)[:, : self._count]]
            found[start : start + _AT_ONCE] = np.linalg.norm(near - rows[:, None], axis=2).max(axis=1)
        return found


@dataclass(frozen=True)
class Unknowns:
    """A Run's way to tell: ``score`` of each embedding, and what is above ``threshold`` is called unknown. scorer: None
    of an adaptive artefact, whose routes give the score with the answer, each of its own embedding.
    """

    score: str
    threshold: float
    scorer: Scorer | None


def share_unknown(unknowns: Unknowns | None, answers: Answers) -> Estimate | None:
    """How many of the answered pictures are called unknown, with Wilson's 95 % interval; None where none can be."""
    if unknowns is None or answers.unlike is None:
        return None
    return wilson(int((answers.unlike > unknowns.threshold).sum()), len(answers.unlike))


def unit(embeddings: Floats) -> Floats:
    """Each row (M, D) scaled to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows: Floats = (embeddings / np.maximum(lengths, 1e-12)).astype(np.float32)
    return rows


def whitening(rows: Floats, labels: Ints | NDArray[np.uint8]) -> Floats:
    """W (D, D) with W Wᵀ = S⁻¹, where S is the covariance of (N, D) rows about the means of their classes, or of what
    several labels say (`within.deviations`).

    S is shrunk towards its mean variance by the oracle approximating rule (Chen et al. 2010, equation 23), so that it
    can be inverted also where D > N. Where no class has two pictures, W is a multiple of 1: the plain distance.
    """
    own, taken = deviations(rows, labels)
    freedom, width = max(1, len(rows) - taken), rows.shape[1]
    covariance = own.T @ own / freedom
    trace, square = float(np.trace(covariance)), float((covariance**2).sum())
    above = (1 - 2 / width) * square + trace**2
    below = (freedom + 1 - 2 / width) * (square - trace**2 / width)
    share = 1.0 if below <= 0 else min(1.0, above / below)
    shrunk = (1 - share) * covariance + share * max(trace / width, 1e-9) * np.eye(width)
    values, vectors = np.linalg.eigh(shrunk)
    matrix: Floats = (vectors / np.sqrt(np.maximum(values, 1e-9))).astype(np.float32)
    return matrix


def threshold(scores: Floats, kept: float = KEPT) -> float | None:
    """The ⌈kept (n + 1)⌉-th smallest of n validation scores; None where there are too few, below 19 for 95 %.

    A new picture that is drawn as those of validation were is above it with a probability of at most 1 - kept
    (split conformal prediction: Vovk et al. 2005; Angelopoulos and Bates 2023, appendix D).
    """
    rank = math.ceil(kept * (len(scores) + 1))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else None


def bank_size(width: int) -> int:
    """The most training pictures in a reference of embeddings of so many numbers: 4,096, and 2²¹ numbers."""
    return max(1, min(MOST_PICTURES, MOST_NUMBERS // width))


def balanced(labels: Ints, most: int, seed: int) -> Ints:
    """Positions of at most ``most`` of the labels, ascending: all classes alike as far as they have pictures.

    Drawn by the seed alone, round by round one of each class; the last round takes whom it can.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    rounds = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        rounds[mine] = np.arange(len(mine))
    chosen = order[np.argsort(rounds[order], kind="stable")][:most]
    return np.sort(chosen)


def describe(scores: Floats, pictures: int, k: int = NEIGHBOURS) -> dict[str, Any]:
    """The card's ``unknown`` from the scores of validation; empty where these are too few for a threshold.

    ``alarms``: the share of validation above the threshold, with Wilson's 95 % interval: how well it is known.
    """
    limit = threshold(scores)
    if limit is None:
        return {}
    alarms = wilson(int((scores > limit).sum()), len(scores))
    return {
        "score": SCORE,
        "k": min(k, pictures),
        "threshold": limit,
        "kept": KEPT,
        "validation": len(scores),
        "alarms": {"value": alarms.value, "low": alarms.low, "high": alarms.high},
        "pictures": pictures,
    }


def read_reference(run: Run) -> Reference:
    """The Run's own. Raises RunError where it has none, or it was changed or is damaged."""
    if not run.records(REFERENCE):
        raise RunError(
            f"{run.path} has no {REFERENCE}: it was imported, or trained by an earlier version",
            hint="train again to have one",
        )
    try:
        found = Reference.from_bytes(run.read(REFERENCE))
    except ValueError as error:
        raise RunError(f"{run.path / REFERENCE} is damaged: {error}", hint="restore the file from a copy") from error
    multi = run.card.task == "multi"
    least, most = (0, 1) if multi else (0, max(1, len(run.classes)) - 1)  # without classes all labels are 0
    shape = (len(found.bank), len(run.classes)) if multi else (len(found.bank),)
    if found.labels.shape != shape or found.labels.min() < least or found.labels.max() > most:
        raise RunError(f"{run.path / REFERENCE} has labels that the Run's classes do not have")
    return found


def read_unknowns(run: Run, card: Mapping[str, Any], reference: Callable[[], Reference] | None) -> Unknowns:
    """How a Run tells unknown pictures by the ``unknown`` of a card, its own or an artefact's; ``reference`` gives the
    Run's, and is None for an adaptive artefact, whose routes have references of their own.

    Raises RunError for a score that this version does not compute, and for a ``k`` that is no neighbour there.
    """
    own = ROUTED if reference is None else SCORE
    if card["score"] != own:
        raise RunError(
            f"{run.path} tells unknown pictures by {card['score']!r}, this version by {own!r}",
            hint="use the version of Resight that made it, named in its card's 'environment'",
        )
    if reference is None:
        return Unknowns(own, float(card["threshold"]), None)
    known = reference()
    if card["k"] > len(known.bank):
        raise RunError(
            f"{run.path}: 'unknown' asks for neighbour {card['k']:,} of {len(known.bank):,} in {REFERENCE}",
            hint="restore both files from one copy",
        )
    return Unknowns(SCORE, float(card["threshold"]), known.scorer(card["k"]))
