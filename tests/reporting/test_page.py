"""The frame of every page: nothing of a stranger's text runs, nothing is fetched, a phone shows it."""

from __future__ import annotations

from pathlib import Path

import jinja2
import numpy as np
import pytest
from tests.reporting.browser import PHONE, opened

from resight.reporting import page

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\n\u202ereversed =cmd|'/c calc'!A1"


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of its own beside the real frame."""
    folder = tmp_path / "templates"
    folder.mkdir()
    for name in ("page.html", "style.css"):
        (folder / name).write_bytes((page.TEMPLATES / name).read_bytes())
    monkeypatch.setattr(page, "TEMPLATES", folder)
    page._environment.cache_clear()
    (folder / "one.html").write_text(
        '{% extends "page.html" %}{% block title %}{{ name|shown }}{% endblock %}'
        '{% block main %}<p title="{{ name }}">{{ name }}</p><img alt="{{ name }}" src="{{ picture }}">{% endblock %}'
    )
    return folder


def test_hostile_names_are_only_shown(templates: Path, tmp_path: Path) -> None:
    picture = page.thumbnail(np.full((300, 400, 3), 128, np.uint8))
    page.write_page(tmp_path / "page.html", "one.html", name=HOSTILE, picture=picture)
    with opened(tmp_path / "page.html", PHONE) as seen:
        assert "<script>alert(1)</script>" in seen.text
        assert seen.dialogs == []
        assert seen.errors == []
        assert seen.overflow == 0
        assert seen.broken_pictures == 0
        assert [url for url in seen.requests if not url.startswith(("data:", "file:"))] == []
    page._environment.cache_clear()


def test_a_missing_name_is_an_error(templates: Path) -> None:
    with pytest.raises(jinja2.UndefinedError):
        page.render("one.html", name="only this")
    page._environment.cache_clear()


def test_thumbnails_are_bounded_and_never_enlarged() -> None:
    import base64
    import io

    from PIL import Image

    for shape, size in (((40, 80, 3), (80, 40)), ((500, 1000, 1), (160, 80))):
        data = page.thumbnail(np.zeros(shape, np.uint8)).partition(",")[2]
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == size


def test_equal_figures_are_equal_files() -> None:
    from matplotlib.figure import Figure

    def drawn() -> str:
        figure = Figure(figsize=(3, 2))
        figure.subplots().plot([0, 1], [1, 0])
        return page.svg(figure)

    assert drawn() == drawn()
