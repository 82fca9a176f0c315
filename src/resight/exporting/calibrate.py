"""What sealing fits on validation: the temperature, and with any number of labels the thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from resight.evaluation import fit_temperature, multilabel
from resight.runs import Run
from resight.samples.model import show_names


def calibrate(run: Run, logits: np.ndarray, targets: np.ndarray, say: Callable[[str], None]) -> dict[str, Any]:
    """The fields of the card that are fitted, from the network's logits on validation, (N, K)."""
    if run.card.task == "single":
        temperature = fit_temperature(logits, targets)
        say(f"calibrated on validation: temperature {temperature:.3f}")
        return {"temperature": temperature}
    temperature = multilabel.fit_temperature(logits, targets)
    thresholds = multilabel.fit_thresholds(multilabel.sigmoid(logits / temperature), targets)
    values = [threshold.value for threshold in thresholds if threshold.fitted]
    between = f", {min(values):.3f} to {max(values):.3f}" if values else ""
    say(
        f"calibrated on validation: temperature {temperature:.3f}, thresholds with the best F1 for {len(values):,} of "
        f"{len(thresholds):,} classes{between}"
    )
    if left := [name for name, threshold in zip(run.classes, thresholds, strict=True) if not threshold.fitted]:
        say(
            f"threshold 0.5 for {len(left):,} classes: fewer than {multilabel.ENOUGH_POSITIVES} validation pictures "
            f"have them, or all: {show_names(left, 5)}"
        )
    return {"temperature": temperature, "thresholds": thresholds}
