"""Options of the command line as wishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from resight.recipes.options import weights_path


def test_weights_that_exist_are_named_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").touch()
    assert weights_path("w.pth") == str(tmp_path / "w.pth")
    assert weights_path("resnet50.tv2_in1k") == "resnet50.tv2_in1k"
