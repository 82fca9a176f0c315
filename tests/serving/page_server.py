"""What the page is tested with: Runs, a server of them at ``base_url``, and one browser.

``base_url`` is the one place that says which server it is.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.inference.tiny import CLASSES, graph, last_layer, make_known_run, make_run, picture
from tests.reporting.browser import _FLAGS

from resight.runs import Run

from .live import serving

HOSTILE = ('<img src=x onerror="alert(1)">', "=cmd|'/c calc'!A0", 'a\u202etxt.exe\n"b"')
"""Names of classes: markup, a formula, a direction mark with a line break and quotes."""


def file(colour: str, seed: int = 0, name: str | None = None) -> dict[str, Any]:
    """A PNG of that colour, as Playwright takes a file to upload."""
    stream = io.BytesIO()
    Image.fromarray(picture(colour, seed, side=24)).save(stream, "PNG")
    return {"name": name or f"{colour}-{seed}.png", "mimeType": "image/png", "buffer": stream.getvalue()}


def strange(name: str = "stripes.png") -> dict[str, Any]:
    """A picture unlike all that ``make_known_run`` has seen."""
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[::2] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": stream.getvalue()}


PDF = {"name": "invoice.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"}


def evaluated(classes: tuple[str, ...]) -> dict[str, Any]:
    """As run.json has it of a test part, as far as the page shows it."""
    share = {"value": 0.9, "low": 0.85, "high": 0.94, "method": "wilson"}
    each = [{"name": name, "support": 50, "precision": share, "recall": share, "f1": share} for name in classes]
    return {"n": 150, "classes": list(classes), "metrics": {"accuracy": share}, "per_class": each}


@pytest.fixture(scope="module")
def page_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """colours: tells unknown pictures. hostile: the names above. labels: any number of them, by thresholds of 0.5."""
    root = tmp_path_factory.mktemp("page")
    known = make_known_run(root / "colours")
    tensors = {"fc.weight": last_layer(), "fc.bias": np.zeros(3, np.float32)}
    metrics = {"test": evaluated(HOSTILE)}
    hostile = make_run(root / "hostile", classes=HOSTILE, fields={"metrics": metrics}, tensors=tensors)
    return {"colours": known, "hostile": hostile, "labels": _several(root / "labels", tensors)}


def _several(path: Path, tensors: dict[str, Any]) -> Run:
    from resight.runs.card import Threshold

    fields = {"task": "multi", "thresholds": tuple(Threshold(0.5) for _ in CLASSES)}
    return make_run(path, model=graph(task="multi").SerializeToString(), fields=fields, tensors=tensors)


@pytest.fixture(scope="module")
def base_url(page_runs: dict[str, Run]) -> Iterator[str]:
    """Where the server of ``page_runs`` answers."""
    with serving({name: run.path for name, run in page_runs.items()}) as live:
        yield live.url


@dataclass
class Seen:
    """A page, and what it did that it should not. ``faults``: errors on the console, violations of the policy."""

    page: Any
    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def give(self, *files: dict[str, Any]) -> None:
        """Picks these files, and waits for all answers."""
        self.page.set_input_files("#files", list(files))
        self.settled()

    def settled(self) -> None:
        self.page.wait_for_selector("#results:not([hidden])")
        self.page.wait_for_selector("#progress", state="hidden")

    def card(self, number: int = 0) -> Any:
        return self.page.locator(".card").nth(number)

    @property
    def overflow(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    """A page of one browser for the module; its camera shows a test picture."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    flags = [*_FLAGS, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield browser.new_page(reduced_motion="reduce")
        browser.close()


@pytest.fixture
def seen(window: Any, base_url: str) -> Iterator[Seen]:
    """The page, opened anew and ready. At its end: nothing was asked of another address, and nothing went wrong."""
    found = Seen(window)
    listeners = {
        "request": lambda request: found.requests.append(request.url),
        "dialog": lambda dialog: (found.dialogs.append(dialog.message), dialog.dismiss()),
        "pageerror": lambda error: found.faults.append(str(error)),
        "console": lambda message: _heard(found, message),
    }
    window.set_default_timeout(20_000)
    window.set_viewport_size({"width": 1100, "height": 800})
    window.emulate_media(color_scheme="light", reduced_motion="reduce")
    window.goto("about:blank")
    for event, listener in listeners.items():
        window.on(event, listener)
    window.goto(base_url)
    window.wait_for_selector("#knows-text:not(:empty)")
    yield found
    window.unroute_all(behavior="ignoreErrors")
    for event, listener in listeners.items():
        window.remove_listener(event, listener)
    elsewhere = [url for url in found.requests if not url.startswith((base_url, f"blob:{base_url}"))]
    assert (found.faults, found.dialogs, elsewhere) == ([], [], [])


def _heard(seen: Seen, message: Any) -> None:
    """Refusals that a test provokes are said on the console by the browser itself, and are no faults of the page."""
    if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
        seen.faults.append(message.text)
