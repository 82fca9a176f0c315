"""A study's directory, and the search: one trial after the other until the trials or the time are used up.

OUT/
  study.json       what is searched, and what was found so far; written anew after each trial
  journal.jsonl    Optuna's journal: every trial with its values, epochs and end
  study.png        the trials, and what they say of each dimension
  trial-0007/      a Run: what `resight train` makes, up to its last step; trial-0007-seed-1/: with another seed
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.errors import DataError, Interrupted, NonFiniteLoss, OutOfMemory, RunError, UsageError
from resight.recipes import TrainConfig
from resight.runs import CARD, CHECKPOINTS
from resight.runs.plain_json import json_bytes, read_json
from resight.runs.storage import write_atomic
from resight.tuning.journal import begin, finished, open_journal, unfinished
from resight.tuning.space import Dimension, wishes_of_trial
from resight.tuning.watch import Objective, Pruned, kept, score

if TYPE_CHECKING:
    import optuna

STUDY, FIGURE = "study.json", "study.png"
VERSION = 1
BEST = 3  # settings that are repeated with other seeds, and whose weights are kept
_MAY_CHANGE = ("trials", "budget_seconds", "seeds")  # may be raised when a study goes on; all else may not change

Train = Callable[[Path, Mapping[str, Any], "optuna.trial.Trial | None"], list[dict[str, Any]]]
"""Trains to the last step in a directory, from where it stands, and returns the history: (directory, wishes on top of
the study's, who is told of epochs). Raises Pruned, NonFiniteLoss, OutOfMemory, Interrupted."""


@dataclass
class Asked:
    """What a study was started with. wishes: dotted fields. trials, budget_seconds: 0 for no limit. seeds: other seeds
    that the best settings are repeated with. fingerprint: of the data, their split included."""

    data: str
    recipe: str | None
    wishes: dict[str, Any]
    space: list[str] | None
    objective: Objective
    trials: int
    budget_seconds: float
    seeds: int
    fingerprint: str


@dataclass
class Study:
    """An open study. config: what the recipe and the wishes make. spent: seconds of all calls. sealed: trials whose
    Runs were finished, and so answered the test part, in order. ended: of repetitions without a score, by the name of
    their directory, why. result: what was found so far."""

    path: Path
    asked: Asked
    config: TrainConfig
    dims: list[Dimension]
    journal: optuna.Study
    spent: float = 0.0
    sealed: list[int] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] | None = None

    @property
    def maximize(self) -> bool:
        return self.asked.objective == "accuracy"

    @property
    def score_name(self) -> str:
        """What a trial's score is, of the validation part: ``accuracy``, ``mean recall`` or ``loss``."""
        if self.asked.objective == "accuracy" and self.config.select == "balanced":
            return "mean recall"
        return self.asked.objective

    def folder(self, number: int, seed: int = 0) -> Path:
        """The Run of a trial; of its ``seed``-th repetition."""
        return self.path / (f"trial-{number:04d}" + (f"-seed-{seed}" if seed else ""))

    def settings(self, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
        """The trial's wishes on top of the study's."""
        return wishes_of_trial(self.dims, trial.params, self.config)

    def complete(self) -> list[optuna.trial.FrozenTrial]:
        """Trials that went to their end, the best first; of equals the one with the lower loss, then the earlier."""
        done = [trial for trial in finished(self.journal) if trial.state.name == "COMPLETE"]
        sign = -1.0 if self.maximize else 1.0
        return sorted(done, key=lambda t: (sign * (t.value or 0.0), t.user_attrs["val_loss"], t.number))

    def write(self) -> None:
        """study.json, atomically."""
        plain = {
            "version": VERSION,
            "asked": asdict(self.asked),
            "dimensions": [dimension.to_dict() for dimension in self.dims],
            "spent_seconds": round(self.spent, 1),
            "sealed": self.sealed,
            "ended": self.ended,
            "result": self.result,
        }
        write_atomic(self.path / STUDY, json_bytes(plain))


def read_study(folder: Path) -> dict[str, Any]:
    """The content of study.json. Raises RunError for a file that is none, or of another version."""
    path = folder / STUDY
    try:
        plain = read_json(path.read_bytes())
        version = plain["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not a study: {error}", hint="give a directory that 'resight tune' made") from error
    if version != VERSION:
        raise RunError(f"{path} has version {version}; expected {VERSION}", hint="start a new study")
    return dict(plain)


def open_study(folder: Path, asked: Asked, config: TrainConfig, dims: list[Dimension], epochs: int) -> Study:
    """The study in ``folder``, new or going on. The caller holds the folder.

    Raises UsageError when it was started with other settings, with the differences; DataError for other data.
    """
    study = Study(folder, asked, config, dims, None)  # type: ignore[arg-type]  # the journal comes last
    if (folder / STUDY).is_file():
        before = read_study(folder)
        now = {"dimensions": [dimension.to_dict() for dimension in dims], **asdict(asked)}
        was = {"dimensions": before["dimensions"], **before["asked"]}
        differing = [name for name in now if name not in _MAY_CHANGE and was.get(name) != now[name]]
        changed = [f"{name} was {was.get(name)!r} and is {now[name]!r}" for name in differing]
        if was["fingerprint"] != asked.fingerprint:
            raise DataError(
                f"the pictures in {asked.data}, or what is train, val and test, changed since {folder} was started",
                hint="restore the data, or start a new study with another --out",
            )
        if changed:
            raise UsageError(
                f"{folder} was started with other settings: {'; '.join(changed)}",
                hint=f"go on as it was started: resight resume {folder}    or choose another --out",
            )
        study.spent, study.sealed = float(before["spent_seconds"]), [int(n) for n in before["sealed"]]
        study.ended = dict(before.get("ended", {}))
        study.result = before["result"]
    study.journal = open_journal(folder, maximize=study.maximize, warmup=epochs // 3)
    study.write()
    return study


# ── the search ─────────────────────────────────────────────────────────────────────────────────────────────────


def search(study: Study, train: Train, say: Callable[[str], None], after: Callable[[], None] = lambda: None) -> None:
    """Runs trials until there are enough, or no time for another. after: called when a trial has ended.

    An interrupted trial goes on first, from its checkpoint. Raises Interrupted, the trial's state saved.
    """
    space = {dimension.field: dimension.distribution() for dimension in study.dims}
    base = {dimension.field: dimension.base for dimension in study.dims}
    while True:
        trial = unfinished(study.journal)
        if trial is not None:
            say(f"trial {trial.number} was interrupted: it goes on")
        elif enough(study):
            return
        else:
            trial = begin(study.journal, space, base, study.config.seed)
        _run(study, trial, train, say)
        _sweep(study)
        after()


def enough(study: Study) -> bool:
    """Whether the trials are done, or another one, with what is repeated afterwards, would not fit into the time."""
    asked, done = study.asked, finished(study.journal)
    if asked.trials and len(done) >= asked.trials:
        return True
    times = [trial.user_attrs["seconds"] for trial in study.complete()]
    if not asked.budget_seconds or not times:
        return False
    usual = statistics.median(times)
    needed = float(usual * (1 + asked.seeds * (BEST + 1)))
    return study.spent + needed > asked.budget_seconds


def _run(study: Study, trial: optuna.trial.Trial, train: Train, say: Callable[[str], None]) -> None:
    """One trial to its end, which is in the journal when this returns."""
    from optuna.trial import TrialState

    frozen = study.journal.get_trials(deepcopy=False)[trial.number]
    wishes = study.settings(frozen)
    shown = ", ".join(f"{name} {value}" for name, value in wishes.items()) or "the recipe's own values"
    say(f"trial {trial.number}: {shown}")
    begun, ended, note = time.monotonic(), TrialState.COMPLETE, ""
    history: list[dict[str, Any]] = []
    try:
        history = train(study.folder(trial.number), wishes, trial)
    except Pruned:
        ended, note = TrialState.PRUNED, "behind the median"
    except (NonFiniteLoss, OutOfMemory) as error:  # a finding about these values, no reason to end the search
        ended, note = TrialState.PRUNED, error.message
    except Interrupted as error:
        error.message = f"trial {trial.number}: {error.message}"
        error.hint = f"go on with: resight resume {study.path}"
        raise
    finally:
        seconds = time.monotonic() - begun
        study.spent += seconds
        study.write()
    trial.set_user_attr("seconds", round(seconds, 2))
    trial.set_user_attr("note", note)
    if ended is TrialState.COMPLETE:
        best = kept(history)
        for name in ("val_accuracy", "val_recall", "val_loss", "epoch"):
            if name in best:
                trial.set_user_attr(name, best[name])
        study.journal.tell(trial.number, score(history, study.asked.objective))
        recall = f"mean recall {100 * best['val_recall']:.2f} %, " if "val_recall" in best else ""
        say(
            f"trial {trial.number}: validation {recall}accuracy {100 * best['val_accuracy']:.2f} %, "
            f"loss {best['val_loss']:.4f}, {seconds:.0f} s"
        )
    else:
        study.journal.tell(trial.number, state=ended)
        say(f"trial {trial.number}: stopped after {seconds:.0f} s: {note}")


def _sweep(study: Study) -> None:
    """Removes the checkpoints of trials that are neither the first nor among the best: the disk is finite."""
    keep = {0, *(trial.number for trial in study.complete()[:BEST]), *study.sealed}
    for trial in finished(study.journal):
        if trial.number not in keep:
            shutil.rmtree(study.folder(trial.number) / CHECKPOINTS, ignore_errors=True)


def check_place(folder: Path) -> None:
    """Raises UsageError unless a study is there, or may be made there: nothing is, or what a killed start left."""
    if (folder / CARD).exists():
        raise UsageError(f"{folder} holds a Run", hint="choose another --out")
    if folder.exists() and not (folder / STUDY).is_file():
        others = folder.is_dir() and [p.name for p in folder.iterdir() if p.name not in (".lock", f"{STUDY}.tmp")]
        if others or not folder.is_dir():
            raise UsageError(
                f"{folder} is not empty: a study would mix with what is there", hint="choose another --out"
            )
