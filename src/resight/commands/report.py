"""``resight eval --report``: what goes into the page. Needs no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resight.inference import Predictor
from resight.runs import Run
from resight.samples import SampleSet

if TYPE_CHECKING:
    from resight.commands.eval import EvalResult


def write_page(
    path: Path,
    result: EvalResult,
    run: Run,
    samples: SampleSet,
    indices: NDArray[np.int64],
    predictor: Predictor,
    *,
    own_data: bool,
) -> None:
    """The page of an evaluation that was just made: ``indices`` int64 (N,) are its pictures' positions in ``samples``,
    ``predictor`` answers for heat maps. Needs the extra ``report``. Raises StorageError.
    """
    from resight.reporting import Answered, Rival, write_report

    rival = None
    if (other := result.against) is not None:
        rival = Rival(other.run.name, other.comparison, other.positions, other.predicted)
    answered = Answered(
        run=Run(run.path, predictor.card),
        samples=samples,
        data=result.data.name,
        part=result.part,
        own_data=own_data,
        indices=indices,
        labels=result.labels,
        logits=result.logits,
        evaluation=result.evaluation,
        warnings=result.warnings + (other.warnings if other else ()),
        skipped=result.skipped,
        rival=rival,
        unknown=result.unknown,
        robustness=None if result.robustness is None else result.robustness.to_dict(),
        augmented=None if result.augmented is None else result.augmented.to_text(),
        artifact=predictor.artifact,
        routes=result.routes,
    )
    write_report(path, answered, predictor)
