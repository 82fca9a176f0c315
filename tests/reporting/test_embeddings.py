"""The plane of embeddings: any names, any number of classes, equal data equal pictures."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from resight.reporting.embeddings import embedding_plot


def text_of(address: str) -> str:
    return base64.b64decode(address.partition(",")[2]).decode("utf-8")


def test_names_are_text_and_nothing_more() -> None:
    names = ["<script>alert(1)</script>", "$\\frac{$", "日本語\u202e", "=cmd"]
    points = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    found = embedding_plot(points, np.arange(40) % 4, names, (0.5, 0.25), points[:2])
    drawn = text_of(found)
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn
    assert "$\\frac{$" in drawn
    assert "\u202e" not in drawn
    assert "50% of the variance" in drawn
    assert embedding_plot(points, np.arange(40) % 4, names, (0.5, 0.25), points[:2]) == found


def test_a_hundred_classes_and_one_picture() -> None:
    points = np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)
    drawn = text_of(embedding_plot(points, np.arange(300) % 100, [f"class {k}" for k in range(100)], (0.1, 0.1)))
    assert len(set(re.findall(r"class \d+", drawn))) == 30
    assert "only" in text_of(embedding_plot(np.zeros((1, 2), np.float32), np.zeros(1, np.int64), ["only"], (0.0, 0.0)))
