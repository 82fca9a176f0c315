"""What each of two processes does in test_distributed.py; run by torchrun."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from tests.training.tiny import Recorder, build, load, tiny_config, tiny_run

from resight.errors import Interrupted
from resight.runs import Run
from resight.training import distributed
from resight.training.checkpoint import newest
from resight.training.fit import Training

RANK = int(os.environ["RANK"])


def training_in(path: Path, data: Path, changes: dict[str, Any], report: Recorder, *, new: bool) -> Training:
    config, samples = tiny_config(data, changes), load(data)
    if new and distributed.is_main():
        tiny_run(path, config, samples)
    run = Run.open(distributed.broadcast_path(path if distributed.is_main() else None), sealed=False)
    training = build(run, config, samples, report)
    if not new:
        checkpoint = newest(run, report.say)
        assert checkpoint is not None
        training.restore(checkpoint)
    return training


def stopped(done: int) -> None:
    """A signal that only the second process receives."""
    if done == 4 and RANK == 1:
        os.kill(os.getpid(), signal.SIGTERM)


def main(root: Path, data: Path, one_step: dict[str, Any], several: dict[str, Any]) -> None:
    training_in(root / "one", data, one_step, Recorder(), new=True).fit()
    training_in(root / "straight", data, several, Recorder(), new=True).fit()
    try:
        training_in(root / "stopped", data, several, Recorder(on_step=stopped), new=True).fit()
    except Interrupted as interrupted:
        outcome = {"code": interrupted.exit_code, "text": str(interrupted)}
    training_in(root / "stopped", data, several, Recorder(), new=False).fit()
    outcome["smallest"] = distributed.smallest(RANK + 3)
    (root / f"rank{RANK}.json").write_text(json.dumps(outcome))
    distributed.wait()


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4]))
