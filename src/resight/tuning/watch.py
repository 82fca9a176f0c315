"""A trial's reporter: tells Optuna of each epoch, and stops a training that is behind the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from resight.training.fit import quality

if TYPE_CHECKING:
    from optuna.trial import Trial

    from resight.training.progress import Lines, Silent

Objective = Literal["accuracy", "loss"]


class Pruned(Exception):
    """The training is not worth its time. Not an error: the trial ends here."""


def kept(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The entry of the epoch whose weights a Run keeps."""
    return max(history, key=quality)


def score(history: Sequence[Mapping[str, Any]], objective: Objective) -> float:
    """What is searched for, of the kept epoch: what it was kept for, validation accuracy or with ``select=balanced``
    mean recall, in [0, 1]; or validation loss in nats."""
    best = kept(history)
    return float(quality(best)[0] if objective == "accuracy" else best["val_loss"])


class Watcher:
    """Passes a training on to ``report``, and every epoch to ``trial``; None: nobody prunes.

    history: epochs done before an interruption. Those that were saved but not told are told now, so that an interrupted
    trial is judged at the same epochs as any other. Raises Pruned, from ``epoch`` and, for these, from ``start``.
    """

    def __init__(
        self,
        report: Silent | Lines,
        trial: Trial | None,
        objective: Objective,
        history: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.report, self.trial, self.objective = report, trial, objective
        self.writes = report.writes
        self.history: list[Mapping[str, Any]] = list(history)
        self.total = 0

    def start(self, done: int, total: int, batch: int) -> None:
        self.total = total
        if self.trial is not None and self.history:
            known = self.trial.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values
            for number, entry in enumerate(self.history, start=1):
                if entry["epoch"] not in known:
                    self.trial.report(score(self.history[:number], self.objective), entry["epoch"])
            self._judge(done)
        self.report.start(done, total, batch)

    def step(self, done: int, loss: float, rate: float) -> None:
        self.report.step(done, loss, rate)

    def epoch(self, entry: dict[str, Any], best: bool) -> None:
        """Not passed on: a study of many trainings is read by trial, not by epoch."""
        self.history.append(entry)
        if self.trial is not None:
            self.trial.report(score(self.history, self.objective), entry["epoch"])
            self._judge(entry["step"])

    def _judge(self, step: int) -> None:
        """A training at its end is not pruned: there is nothing left to save."""
        assert self.trial is not None
        if step < self.total and self.trial.should_prune():
            raise Pruned

    def say(self, text: str) -> None:
        self.report.say(text)

    def close(self) -> None:
        self.report.close()
