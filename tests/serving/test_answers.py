"""What is answered is what the same Predictor answers in process."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from tests.inference.tiny import CLASSES, SIZE, graph, make_run

from resight.images import decode
from resight.inference import Predictor, writers
from resight.runs import Run
from resight.serving import page

from .live import LIMITS, Live, encoded, serving

Answer = dict[str, Any]
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp"}


def offline(run: Run, names: list[str], pictures: list[bytes], top: int = 5) -> list[Answer]:
    """What ``resight predict --json`` writes for these pictures."""
    found = list(Predictor(run, threads=1).predict(pictures, top))
    answers = json.loads("".join(writers.json_text(found)))
    return [answer | {"source": name} for answer, name in zip(answers, names, strict=True)]


def check_alike(found: list[Answer], expected: list[Answer]) -> None:
    """Equal, but for what another batch may change: 1e-6 in probability, and the last digits of a score, which a
    product of matrices sums in another order.
    """
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert [pair["class"] for pair in one["top"]] == [pair["class"] for pair in other["top"]]
        near = [abs(a["probability"] - b["probability"]) for a, b in zip(one["top"], other["top"], strict=True)]
        assert max(near) <= 1e-6
        assert one["score"]["value"] == pytest.approx(other["score"]["value"], rel=1e-4)
        changing = ("top", "score", "probability")
        assert {k: v for k, v in one.items() if k not in changing} == {
            k: v for k, v in other.items() if k not in changing
        }


@pytest.mark.parametrize("format", FORMATS)
def test_one_picture_in_each_format(live: Live, known: Run, format: str) -> None:
    data = encoded("green", 3, side=37, format=format)
    found = live.client.post("/predict", content=data, headers={"Content-Type": FORMATS[format]})
    assert found.status_code == 200, found.text
    assert found.json()["predictions"] == offline(known, ["#0"], [data])
    assert found.json()["model"] == "colours"
    assert found.json()["version"] == known.card.files["model.onnx"][:12]
    assert found.json()["request_id"] == found.headers["X-Request-Id"]


def test_many_pictures_in_order_with_bad_ones_among_them(live: Live, known: Run) -> None:
    good = [encoded(CLASSES[k % 3], k, side=9 + k) for k in range(12)]
    sent = [(f"{k}.png", data) for k, data in enumerate(good)]
    sent.insert(3, ("paper.pdf", b"%PDF-1.7 ..."))
    sent.insert(7, ("cut.png", good[0][:60]))
    found = live.client.post("/predict?top=2&model=again", files=[("any", one) for one in sent])
    answers = found.json()["predictions"]
    assert [answer["source"] for answer in answers] == [name for name, _ in sent]
    bad = [answers.pop(7), answers.pop(3)]
    assert [(one["status"], one["label"], one["top"]) for one in bad] == [(422, None, []), (415, None, [])]
    assert "PDF" in bad[1]["error"]
    check_alike(answers, offline(known, [f"{k}.png" for k in range(12)], good, top=2))


def test_unknown_is_said_as_offline(live: Live, known: Run) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    stream = BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    answers = live.client.post("/predict", files=[("f", ("n.png", stream.getvalue()))]).json()["predictions"]
    assert answers == offline(known, ["n.png"], [stream.getvalue()])
    assert answers[0]["unknown"] is True


def test_equal_under_load_with_two_threads(known: Run, tmp_path: Path) -> None:
    data = [encoded(CLASSES[k % 3], k, side=11 + k % 5) for k in range(40)]
    expected = offline(known, ["f"] * 40, data)
    with serving({"m": known.path}, LIMITS.__class__(threads=2)) as live, ThreadPoolExecutor(8) as pool:

        def ask(one: bytes) -> Answer:
            answer: Answer = live.client.post("/predict", files={"f": ("f", one)}).json()["predictions"][0]
            return answer

        check_alike(list(pool.map(ask, data)), expected)
        assert live.metric("resight_batch_size_sum") == 40
        assert live.metric("resight_pending") == live.metric("resight_pending_bytes") == 0


def test_several_labels_a_picture(tmp_path: Path) -> None:
    thresholds = tuple({"value": value} for value in (0.5, 0.4, 0.9))
    run = make_run(
        tmp_path / "multi",
        model=graph(3, task="multi").SerializeToString(),
        fields={"task": "multi", "thresholds": _thresholds(thresholds)},
    )
    data = encoded("red")
    with serving({"multi": run.path}) as live:
        found = live.client.post("/predict", files={"f": ("r.png", data)}).json()["predictions"]
        assert found == offline(run, ["r.png"], [data])
        assert found[0]["labels"]
        refused = live.client.post("/explain", files={"f": ("r.png", data)})
        assert (refused.status_code, refused.headers["X-Request-Id"]) == (404, refused.json()["request_id"])


def _thresholds(values: tuple[dict[str, float], ...]) -> tuple[object, ...]:
    from resight.runs.card import Threshold

    return tuple(Threshold(**value) for value in values)


def test_the_map_is_where_the_class_is(live: Live) -> None:
    """Left half blue, right half red: evidence for blue is drawn on the left alone."""
    halves = np.zeros((SIZE, SIZE, 3), np.uint8)
    halves[:, : SIZE // 2, 2], halves[:, SIZE // 2 :, 0] = 255, 200
    stream = BytesIO()
    Image.fromarray(halves).save(stream, "PNG")
    content = {"Content-Type": "image/png"}
    left = live.client.post("/explain?class=blue", content=stream.getvalue(), headers=content)
    right = live.client.post("/explain?class=red", content=stream.getvalue(), headers=content)
    assert left.headers["Content-Type"] == "image/png"
    assert (left.headers["Resight-Class"], right.headers["Resight-Class"]) == ("blue", "red")
    assert 0.5 < float(left.headers["Resight-Probability"]) <= 1
    shown = [decode(answer.content).astype(int) for answer in (left, right)]
    assert shown[0].shape == shown[1].shape == (224, 224, 3)
    plain = halves.repeat(28, axis=0).repeat(28, axis=1)
    changed = [np.abs(one - plain).sum(axis=2) > 30 for one in shown]
    assert changed[0][:, :80].mean() > 0.9
    assert changed[1][:, -80:].mean() > 0.9
    assert changed[0][:, -80:].mean() < 0.1
    assert changed[1][:, :80].mean() < 0.1


def test_explain_names_the_answer_and_shrinks_what_is_large(live: Live) -> None:
    data = encoded("green", side=1500, format="JPEG")
    found = live.client.post("/explain", files={"f": ("g.jpg", data)})
    assert found.headers["Resight-Class"] == "green"
    assert max(decode(found.content).shape) <= 1024


def test_class_names_of_strangers_come_back_exact(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", 'quo"te\n\u202e', "=cmd|' /C calc'!A0")
    tensors = {"fc.weight": _head(), "fc.bias": np.zeros(3, np.float32)}
    run = make_run(tmp_path / "odd", classes=names, tensors=tensors)
    with serving({"odd": run.path}) as live:
        found = live.client.post("/predict", files={"f": ("x", encoded("green"))})
        assert {one["class"] for one in found.json()["predictions"][0]["top"]} == set(names)
        assert "\u202e" not in found.text  # as an escape
        shown = live.client.post("/explain", files={"f": ("x", encoded("green"))})
        assert unquote(shown.headers["Resight-Class"]) == names[1]
        assert live.client.get("/models/odd/card").json()["classes"] == list(names)
        assert "<script" not in live.client.get("/metrics").text


def _head() -> np.ndarray:  # type: ignore[type-arg]
    from tests.inference.tiny import last_layer

    return last_layer()


def test_models_and_cards(live: Live, known: Run) -> None:
    first, second = live.client.get("/models").json()["models"]
    assert first == {
        "name": "colours",
        "version": known.card.files["model.onnx"][:12],
        "ready": True,
        "classes": 3,
        "size": SIZE,
        "task": "single",
        "default": True,
    }
    assert (second["name"], second["default"]) == ("again", False)
    card = live.client.get("/models/colours/card")
    assert card.json()["classes"] == list(CLASSES)
    assert card.json()["unknown"]["threshold"] == known.card.unknown["threshold"]
    assert card.json()["limits"] == {
        "megapixels": 64.0,
        "bytes": 32 * 2**20,
        "formats": ["JPEG", "PNG", "WEBP", "GIF", "BMP"],
        "files": 32,
    }
    assert str(known.path) not in card.text
    assert str(known.path.parent) not in card.text


def test_the_page_is_what_lies_in_its_folder(live: Live) -> None:
    found = live.client.get("/")
    assert found.content == (page.FOLDER / "index.html").read_bytes()
    assert found.headers["Content-Security-Policy"] == page.POLICY
    assert found.headers["Content-Type"] == "text/html; charset=utf-8"
    for name in ("app.py", "..%2fapp.py", "..%2f..%2fpyproject.toml", "%2fetc%2fpasswd", "index.html%00"):
        assert live.client.get(f"/page/{name}").status_code == 404


def test_links_and_folders_are_no_part_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "secret.js").write_text("x")
    folder = tmp_path / "page"
    (folder / "below.js").mkdir(parents=True)
    (folder / "link.js").symlink_to(tmp_path / "secret.js")
    (folder / "page.js").write_text("y")
    (folder / "notes.txt").write_text("z")
    assert list(page.read_page(folder)) == ["page.js"]
