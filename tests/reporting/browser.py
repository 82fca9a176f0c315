"""Pages in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

DESKTOP, PHONE = (1280, 900), (390, 844)
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Seen:
    """A page as it was shown: what it asked the network for, what ran, how wide it is beyond the window."""

    page: Any
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def overflow(self) -> int:
        """Pixels that the page is wider than the window: 0 where a phone shows all of it."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    @property
    def broken_pictures(self) -> int:
        return int(self.page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length"))

    @property
    def text(self) -> str:
        return str(self.page.inner_text("body"))


@contextmanager
def opened(path: Path, size: tuple[int, int] = DESKTOP, picture: Path | None = None) -> Iterator[Seen]:
    """The file ``path`` in a window of ``size``; ``picture``: a PNG of the whole page. Skips without a browser."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        seen = Seen(page)
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.goto(path.absolute().as_uri())
        if picture is not None:
            page.screenshot(path=str(picture), full_page=True)
        yield seen
        browser.close()
