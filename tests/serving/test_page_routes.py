"""The page of an adaptive artefact: which network answered each picture. In a browser, against the Predictor."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.adapting.small import mixed, rating, timing, two_runs

from resight.adapting.cascades import cascade, small_of
from resight.inference import Predictor
from resight.inference.writers import csv_text
from resight.runs import Run, open_artifact

from .live import serving
from .page_server import Seen, seen, window  # noqa: F401
from .test_page import saved


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With the artefact ``cascade``: resnet18, then resnet50."""
    folder = tmp_path_factory.mktemp("routes")
    whole, small, data = two_runs(folder)
    stubs: dict[str, Any] = {"timing": timing(), "rating": rating(resnet18=1000.0)}
    cascade(whole, data, [small_of(whole, small)], name="cascade", rule="cascade", **stubs)
    return whole


@pytest.fixture(scope="module")
def base_url(run: Run) -> Iterator[str]:
    with serving({"colours": Path(run.path)}, artifact="cascade") as live:
        yield live.url


def file(seed: int) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(mixed(seed)[0]).save(stream, "PNG")
    return {"name": f"{seed}.png", "mimeType": "image/png", "buffer": stream.getvalue()}


def test_each_picture_says_who_answered(seen: Seen, run: Run) -> None:  # noqa: F811
    predictor = Predictor(run, artifact="cascade", threads=1)
    answers = [(one, next(predictor.predict([one["buffer"]]))) for one in map(file, range(80))]
    easy, hard = ([pair for pair in answers if pair[1].route == name][:3] for name in ("resnet18", "resnet50"))
    assert easy
    assert hard
    files, expected = zip(*easy, *hard, strict=True)
    share = open_artifact(run, "cascade").card.adaptive["routes"][0]["share"]["test"]
    for k, one in enumerate(files):
        seen.give(one)
        seen.page.wait_for_selector(f".bars >> nth={k}")
    for k, one in enumerate(expected):
        text = seen.card(k).locator(".route").inner_text()
        assert text.startswith(f"Answered by {one.route} (")
        if one.route == "resnet18":
            assert f"({100 * share:.0f}\u00a0% of test pictures), in 30\u00a0% of the whole network’s time." in text
    named = [replace(answer, source=one["name"]) for answer, one in zip(expected, files, strict=True)]
    assert saved(seen) == "".join(csv_text(named))
    seen.page.click("#as-table")
    heads = seen.page.locator("#table thead th").all_inner_texts()
    column = heads.index("Answered by") + 1
    seen.page.locator("#table thead button").nth(column - 1).click()
    cells = seen.page.locator(f"#table tbody td:nth-child({column})").all_inner_texts()
    assert cells == sorted(one.route or "" for one in expected)


def test_what_is_foreign_is_called_unknown(seen: Seen) -> None:  # noqa: F811
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "black").save(stream, "PNG")
    seen.give({"name": "black.png", "mimeType": "image/png", "buffer": stream.getvalue()})
    seen.page.wait_for_selector(".route")
    assert seen.card(0).locator(".answer").inner_text() == "unknown"
    assert seen.card(0).locator(".route").inner_text().startswith("Answered by ")


def test_the_model_card_says_what_each_network_costs(seen: Seen) -> None:  # noqa: F811
    seen.page.click("#about")
    text = seen.page.inner_text("#card")
    for expected in ("Which network answers", "resnet50", "130.0\u00a0%", "Share of test pictures"):
        assert expected in text
    assert "less like the training pictures than 95\u00a0% of 120 validation pictures" in text
    assert "The score is that of the graph that answered, in a unit of its own." in text
