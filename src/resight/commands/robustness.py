"""What ``resight eval`` does with ``--corruptions`` and ``--tta``: more answers for the pictures of an evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import UsageError
from resight.evaluation.augmented import VIEWS, Augmented, compare_views, mean_logits, views_of
from resight.evaluation.corruptions import KINDS, SEVERITIES, corrupt
from resight.evaluation.robustness import Robustness, stratified, summarise
from resight.inference import Answers, Predictor, batched, map_ordered
from resight.runs import CONFIG, Run
from resight.samples import SampleSet

Pixels = NDArray[np.uint8]
Say = Callable[[str], None]

PICTURES = 1000
"""Pictures that are corrupted where nothing else is said: 76,000 answers."""
CHUNK = 64  # pictures in memory at a time, clean and in one corrupted version
EVERY = 10.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Extras:
    """What was asked for besides the evaluation. ``kinds``: empty, or kinds of corruption. ``pictures``: how many
    of them; None: all. ``views``: None, or a name in `VIEWS`.
    """

    kinds: tuple[str, ...] = ()
    pictures: int | None = PICTURES
    views: str | None = None


def asked(corruptions: bool | Sequence[str], pictures: int | str | None, tta: str | None) -> Extras:
    """Wishes as arguments → Extras. Raises UsageError for unknown names, and for wishes that contradict each other."""
    if isinstance(corruptions, str):
        corruptions = [name.strip() for name in corruptions.split(",")]
    kinds = (KINDS if corruptions else ()) if isinstance(corruptions, bool) else tuple(dict.fromkeys(corruptions))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or (not isinstance(corruptions, bool) and not kinds):
        raise UsageError(f"there is no corruption {', '.join(map(repr, unknown))}", hint=f"kinds: {', '.join(KINDS)}")
    if tta is not None and tta not in VIEWS:
        raise UsageError(f"there are no views {tta!r}", hint=f"views: {', '.join(VIEWS)}")
    if kinds and tta:
        raise UsageError(
            "corruptions and test-time augmentation are measured one at a time: each is compared with plain answers",
            hint="run eval twice, once with --corruptions and once with --tta",
        )
    if pictures is not None and not kinds:
        raise UsageError("a number of pictures to corrupt has no effect without corruptions", hint="add --corruptions")
    return Extras(tuple(kind for kind in KINDS if kind in kinds), _number(pictures), tta)


def check_channels(run: Run, extras: Extras) -> None:
    """Raises UsageError where corruptions are asked for of a Run that answers neither grey nor RGB pictures."""
    if extras.kinds and run.card.channels not in (1, 3):
        raise UsageError(
            f"corruptions are defined for grey and RGB pictures; {run.path} answers pictures of "
            f"{run.card.channels} channels",
            hint="leave --corruptions out; --tta works for any number of channels",
        )


def _number(pictures: int | str | None) -> int | None:
    if pictures is None:
        return PICTURES
    if pictures == "all":
        return None
    try:
        number = int(pictures)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"the number of pictures to corrupt is {pictures!r}; expected 1 or more, or all")
    return number


def measure_corruptions(
    predictor: Predictor,
    samples: SampleSet,
    found: Answers,
    labels: NDArray[np.int64],
    extras: Extras,
    *,
    seed: int = 0,
    say: Say | None = None,
) -> Robustness:
    """Answer corrupted versions of the pictures that ``found`` answers, or of a stratified choice of them.

    ``labels`` (N,): positions in the Run's classes, in the order of ``found``. Memory: `CHUNK` pictures, twice.
    ``say`` gets a line of progress every ten seconds. Raises ImageError when a picture cannot be read any more.
    """
    chosen = stratified(labels, extras.pictures or len(labels), seed)
    truth = labels[chosen]
    clean = found.probabilities[chosen]
    correct = {kind: np.empty((len(SEVERITIES), len(chosen)), bool) for kind in extras.kinds}
    confident = np.zeros(1 + len(SEVERITIES))
    confident[0] = clean.max(axis=1).mean()
    if say is not None:
        say(f"corrupting {len(chosen):,} pictures in {len(extras.kinds) * len(SEVERITIES)} ways each …")
    done, progress = 0, _Progress("corrupted", len(chosen), say)
    for squares in _squares(predictor, samples, found.indices[chosen]):
        part = slice(done, done + len(squares))
        for kind in extras.kinds:
            for row, severity in enumerate(SEVERITIES):
                changed = _in_threads(predictor, partial(corrupt, kind=kind, severity=severity, seed=seed), squares)
                (answers,) = predictor.ask(np.stack(changed), ("probabilities",))
                correct[kind][row, part] = answers.argmax(axis=1) == truth[part]
                confident[1 + row] += answers.max(axis=1).sum() / (len(extras.kinds) * len(chosen))
        done = part.stop
        progress.at(done)
    return summarise(
        clean.argmax(axis=1) == truth,
        correct,
        confidence=confident.tolist(),
        available=len(labels),
        size=predictor.run.card.geometry.size,
        seed=seed,
    )


def measure_views(
    predictor: Predictor,
    samples: SampleSet,
    found: Answers,
    labels: NDArray[np.int64],
    views: str,
    *,
    say: Say | None = None,
) -> Augmented:
    """Answer all views of the pictures that ``found`` answers, beside one view, and time both.

    Both times hold reading, decoding and geometry once. ``labels`` and ``say``: as in `measure_corruptions`. Raises
    ImageError when a picture cannot be read any more.
    """
    temperature = predictor.card.temperature
    plain, mean = [], []
    reading = first = all_ = 0.0
    done, progress = 0, _Progress("augmented", len(labels), say)
    some = next(_squares(predictor, samples, found.indices[:CHUNK]))
    for number in {len(some), len(labels) % CHUNK} - {0}:  # opens the sessions that will be used before time is taken
        predictor.ask(np.stack(some[:number]), ("logits",))
    before = time.perf_counter()
    for squares in _squares(predictor, samples, found.indices):
        reading += time.perf_counter() - before
        before = time.perf_counter()
        answers = []
        for view in views_of(np.stack(squares), views):
            answers.append(predictor.ask(view, ("logits",))[0].astype(np.float64) / temperature)
            if len(answers) == 1:
                first += time.perf_counter() - before
        plain.append(answers[0])
        mean.append(mean_logits(answers))
        all_ += time.perf_counter() - before
        done += len(squares)
        progress.at(done)
        before = time.perf_counter()
    return compare_views(
        np.concatenate(plain),
        np.concatenate(mean),
        labels,
        predictor.classes,
        views=views,
        seconds=reading + all_,
        plain_seconds=reading + first,
        note=mirror_note(predictor.run),
    )


def mirror_note(run: Run) -> str:
    """What must be said where ``run`` never saw mirrored pictures in training, or nobody knows; else empty."""
    config: Any = run.read_json(CONFIG) if run.records(CONFIG) else {}
    augment = config.get("augment") if isinstance(config, dict) else None
    if not isinstance(augment, dict) or "flip" not in augment:
        return "whether this Run was trained with mirrored pictures is not known"
    if augment["flip"] in ("none", False):
        return "this Run was trained without mirrored pictures: where left and right mean something, views harm"
    return ""


def _squares(predictor: Predictor, samples: SampleSet, indices: NDArray[np.int64]) -> Iterator[list[Pixels]]:
    """Pictures as the network sees them, (S, S, C) each, `CHUNK` at a time."""
    card = predictor.run.card

    def read(index: int) -> Pixels:
        return card.geometry.apply(samples.read(samples.samples[index], card.channels, geometry=card.geometry))

    for group in batched(indices.tolist(), CHUNK):
        yield _in_threads(predictor, read, group)


def _in_threads(predictor: Predictor, function: Callable[[Any], Pixels], items: Sequence[Any]) -> list[Pixels]:
    return list(map_ordered(function, items, threads=predictor.threads, window=2 * predictor.threads))


class _Progress:
    """Says every ten seconds how many of ``total`` pictures are done, and about how long the others take."""

    def __init__(self, done: str, total: int, say: Say | None) -> None:
        self._done, self._total, self._say = done, total, say
        self._started = self._said = time.monotonic()

    def at(self, number: int) -> None:
        now = time.monotonic()
        if self._say is None or now - self._said < EVERY or number >= self._total:
            return
        left = int((now - self._started) / number * (self._total - number))
        self._say(f"{self._done} {number:,} of {self._total:,} pictures, about {left // 60}:{left % 60:02d} left")
        self._said = now
