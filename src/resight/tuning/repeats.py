"""The best settings with other seeds: how much of their score was luck."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resight.errors import Interrupted, NonFiniteLoss, OutOfMemory, UsageError
from resight.runs import CHECKPOINTS
from resight.tuning.study import BEST, Study, Train
from resight.tuning.watch import Objective, score

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Repeated:
    """A trial's settings with other seeds than the study's. scores: by seed; None where the training diverged or memory
    ran out."""

    number: int
    seeds: tuple[int, ...]
    scores: tuple[float | None, ...]

    @property
    def mean(self) -> float:
        """NaN when there is no score."""
        good = [value for value in self.scores if value is not None]
        return statistics.fmean(good) if good else float("nan")

    @property
    def deviation(self) -> float:
        """The sample's standard deviation; NaN for a single score."""
        good = [value for value in self.scores if value is not None]
        return statistics.stdev(good) if len(good) > 1 else float("nan")


def repeat(study: Study, train: Train, say: Callable[[str], None]) -> list[Repeated]:
    """The best settings, and the recipe's own, with other seeds: their own score was picked for being high, so it is
    not among the scores. The split stays the study's. What is trained already is read. Best mean first.
    """
    best = study.complete()
    chosen = best[:BEST] + [trial for trial in best[BEST:] if trial.number == 0]
    found = []
    for trial in chosen if study.asked.seeds else []:
        seeds = [study.config.seed + n for n in range(1, study.asked.seeds + 1)]
        scores: list[float | None] = []
        for n, seed in enumerate(seeds, start=1):
            folder, begun = study.folder(trial.number, n), time.monotonic()
            if folder.name in study.ended:
                say(f"trial {trial.number} with seed {seed}: {study.ended[folder.name]}")
                scores.append(None)
                continue
            try:
                history = train(folder, {**study.settings(trial), "seed": seed}, None)
                scores.append(score(history, study.asked.objective))
            except (NonFiniteLoss, OutOfMemory) as error:  # a finding, which another attempt would only repeat
                say(f"trial {trial.number} with seed {seed}: {error.message}")
                scores.append(None)
                study.ended[folder.name] = error.message
            except Interrupted as error:
                error.hint = f"go on with: resight resume {study.path}"
                raise
            finally:
                study.spent += time.monotonic() - begun
                study.write()
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            say(f"trial {trial.number} with seed {seed}: {shown_score(scores[-1], study.asked.objective)}")
        found.append(Repeated(trial.number, tuple(seeds), tuple(scores)))
    sign = -1.0 if study.maximize else 1.0
    return sorted(found, key=lambda r: (None in r.scores, sign * r.mean))


def shown_score(value: float | None, objective: Objective) -> str:
    """For people: ``93.10 %`` or ``0.2134``."""
    if value is None:
        return "no score"
    return f"{100 * value:.2f} %" if objective == "accuracy" else f"{value:.4f}"


def winner(study: Study, repeated: Sequence[Repeated]) -> optuna.trial.FrozenTrial:
    """The trial with the best mean over other seeds; without repetitions, with the best score.

    Raises UsageError when no trial came to its end.
    """
    best = study.complete()
    if not best:
        raise UsageError(
            "no trial came to its end: every one diverged or ran out of memory",
            hint="give a lower --lr to search around, or a smaller --image-size",
        )
    if repeated:
        return next(trial for trial in best if trial.number == repeated[0].number)
    return best[0]
