"""A compiled training: the same bits after a kill, and nearly the numbers of one that is not compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.training.test_resume import killed_at
from tests.training.tiny import digest, last, start, write_patterns


@pytest.mark.soak
def test_compiling_changes_speed_and_not_what_is_learnt(tmp_path: Path) -> None:
    data = write_patterns(tmp_path / "data")
    changes: dict[str, Any] = {"compile": True, "data.start_scale": 0.75, "save_steps": 4}
    start(tmp_path / "straight", data, changes).fit()
    assert killed_at(tmp_path / "killed", data, [3, 9], changes) == digest(tmp_path / "straight")
    start(tmp_path / "eager", data, changes | {"compile": False}).fit()
    losses = [last(tmp_path / name).state.history[-1]["train_loss"] for name in ("straight", "eager")]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
