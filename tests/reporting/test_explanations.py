"""The page of explanations, without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resight.explaining import ClassMap, Explanation, Explanations
from resight.images import Geometry
from resight.reporting.explanations import section, write

pytest.importorskip("jinja2")


@pytest.mark.parametrize("unknown", [None, True])
def test_answers_with_many_labels_are_shown_whole(tmp_path: Path, unknown: bool | None) -> None:
    """And harmless: nobody reads on after a name that says otherwise."""
    names = [f"label number {k}" for k in range(150)] + ["<script>", "turned \u202e round"]
    heat, pixels = np.ones((3, 3), np.float32), np.zeros((9, 9, 3), np.uint8)
    item = Explanation(
        "a.png", names[0], 0.9, unknown, labels=tuple((n, 0.9) for n in names), maps=(ClassMap(names[0], 0.9, heat),)
    )
    result = Explanations(tmp_path, "cam", tmp_path / "index.html", (item,))
    write(result, [section(item, pixels, Geometry("crop", 9, 9), [], {})], None, names, None, None)
    text = (tmp_path / "index.html").read_text("utf-8")
    assert all(f"{name} 90.0 %" in text for name in names[:150])
    assert "<script>" not in text
    assert "\u202e" not in text
