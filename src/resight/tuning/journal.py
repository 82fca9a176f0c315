"""Optuna's study in a file of one line for each event: a trial whose end is in it is never lost.

Lines are written and flushed to the disk one at a time. What a trial will try is one line, so that a killed process
leaves either all of a trial's values or none. Proposals are a function of the seed, the trial's number and the finished
trials alone: a fresh sampler is made for each, since a sampler's state is in no file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resight.errors import RunError
from resight.runs.storage import storage_errors

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

JOURNAL = "journal.jsonl"
_NAME = "tune"
_RANDOM = 6  # trials, the recipe's own among them, before the sampler follows what it has seen
_COMPARED = 4  # complete trials before one is pruned


class _HeldAlready:
    """No lock of Optuna's, whose file a killed process leaves behind: whoever is here holds the study's directory."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


def open_journal(folder: Path, *, maximize: bool, warmup: int) -> Study:
    """The study of ``folder``, new or with all of its trials. The caller holds the folder (``exclusive``).

    warmup: epochs in which no trial is pruned; after them one that is below the median of those that went on to their
    end, at the same epoch, is. Raises RunError for a journal that is damaged, StorageError.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.disable_default_handler()  # it would write to stderr whatever the command says there
    logging.getLogger("optuna").setLevel(logging.ERROR)
    path = folder / JOURNAL
    _mend(path)
    lock: Any = _HeldAlready()
    with storage_errors(path):
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        return optuna.create_study(
            storage=storage,
            study_name=_NAME,
            direction="maximize" if maximize else "minimize",
            pruner=optuna.pruners.MedianPruner(_COMPARED, warmup + 1, n_min_trials=_COMPARED),
            load_if_exists=True,
        )


def _mend(path: Path) -> None:
    """Cuts off a last line that is not whole: its writer was killed. Raises RunError for any other damage."""
    if not path.exists():
        return
    with storage_errors(path):
        data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            json.loads(line)
        except ValueError as error:
            raise RunError(
                f"{path}, line {number} is damaged: it is no JSON", hint="restore the file, or start a new study"
            ) from error
    if len(whole) < len(data):
        with storage_errors(path), path.open("r+b") as file:
            file.truncate(len(whole))


def finished(study: Study) -> list[FrozenTrial]:
    """Trials with an end, complete or pruned, by number."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def unfinished(study: Study) -> Trial | None:
    """The trial that was interrupted, to go on with; there is at most one."""
    from optuna.trial import Trial, TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        return Trial(study, trial._trial_id)
    return None


def begin(study: Study, space: Mapping[str, BaseDistribution], base: Mapping[str, Any], seed: int) -> Trial:
    """Writes the next trial into the journal, with all of its values, and returns it.

    The first one tries ``base``. base: field → value inside of its distribution.
    """
    import optuna
    from optuna.trial import TrialState

    done = finished(study)
    params = propose(space, done, study.direction, seed) if done else dict(base)
    study.add_trial(optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=dict(space)))
    trial = unfinished(study)
    assert trial is not None
    return trial


def propose(
    space: Mapping[str, BaseDistribution], done: Iterable[FrozenTrial], direction: Any, seed: int
) -> dict[str, Any]:
    """Values for trial number len(done): by the tree-structured Parzen estimator (Bergstra et al. 2011), all
    dimensions together (Falkner et al. 2018); at random while there are few trials."""
    import optuna

    done = list(done)
    sampler = optuna.samplers.TPESampler(
        seed=1000 * seed + len(done), n_startup_trials=_RANDOM, multivariate=True, constant_liar=False
    )
    memory = optuna.create_study(direction=direction, sampler=sampler)
    memory.add_trials(done)
    return memory.ask(dict(space)).params
