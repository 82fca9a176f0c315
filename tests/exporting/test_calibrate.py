"""What sealing says of what it fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.inference import tiny
from tests.inference.test_multilabel import FIELDS

from resight.exporting.calibrate import calibrate


def test_names_of_classes_are_harmless_on_a_terminal(tmp_path: Path) -> None:
    names = ("\x1b[2J", "turned \u202e round", "red")
    run = tiny.make_run(tmp_path / "run", classes=names, fields=FIELDS)
    targets, said = np.eye(3, dtype=np.uint8)[np.arange(6) % 3], list[str]()
    fitted = calibrate(run, np.random.default_rng(0).normal(size=(6, 3)), targets, said.append)
    assert not any(threshold.fitted for threshold in fitted["thresholds"])
    assert "threshold 0.5 for 3 classes" in said[-1]
    assert "red" in said[-1]
    assert not {"\x1b", "\u202e"} & set("".join(said))
