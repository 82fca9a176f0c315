"""The part of a report about corruptions: a heat map and a table, on a desktop and a phone."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from tests.reporting.browser import DESKTOP, PHONE, opened

from resight.evaluation.corruptions import KINDS
from resight.evaluation.robustness import Robustness, summarise
from resight.reporting import page
from resight.reporting.robustness_figure import robustness_figure


def made(kinds: tuple[str, ...] = KINDS) -> Robustness:
    random = np.random.default_rng(0)
    clean = random.random(100) < 0.9
    hits = {kind: clean & (random.random((5, 100)) < 0.98 - 0.19 * np.arange(5)[:, None]) for kind in kinds}
    confidence = (0.9, 0.88, 0.85, 0.8, 0.75, 0.7)
    return summarise(clean, hits, confidence=confidence, available=400, size=224)


def svg_of(kinds: tuple[str, ...]) -> str:
    return base64.b64decode(robustness_figure(made(kinds).to_dict()).partition(",")[2]).decode()


def test_the_figure_has_a_row_for_each_kind() -> None:
    pytest.importorskip("matplotlib")
    text = svg_of(KINDS)
    assert all(kind.replace("_", " ") in text for kind in KINDS)
    assert text == svg_of(KINDS)
    alone = svg_of(("fog",))
    assert ">fog<" in alone
    assert "snow" not in alone


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_part_of_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    pytest.importorskip("jinja2")
    folder = tmp_path / "templates"
    folder.mkdir()
    for name in ("page.html", "style.css", "robustness.html"):
        (folder / name).write_bytes((page.TEMPLATES / name).read_bytes())
    (folder / "one.html").write_text(
        '{% extends "page.html" %}{% block title %}Report{% endblock %}'
        '{% block main %}{% include "robustness.html" %}{% endblock %}'
    )
    monkeypatch.setattr(page, "TEMPLATES", folder)
    page._environment.cache_clear()
    stored = made().to_dict()
    page.write_page(tmp_path / "page.html", "one.html", robustness=stored, robustness_figure=robustness_figure(stored))
    page._environment.cache_clear()
    with opened(tmp_path / "page.html", size, tmp_path / "page.png") as seen:
        assert (seen.overflow, seen.broken_pictures, seen.errors) == (0, 0, [])
        assert "100 of 400 pictures" in seen.text
        assert all(kind.replace("_", " ") in seen.text for kind in KINDS)
        assert seen.text.count("[") == 2 * 15 + 3
