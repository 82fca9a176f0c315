"""A local server that stands in for torchvision's and the Hugging Face hub's."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` (path → bytes) with Range, and the headers of the hub.

    cut: break the connection after this many bytes, once for each entry. status: answer so, likewise.
    ranges: whether Range is honoured. seen: (method, path, Range header) of every request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []
        self.status: list[int] = []
        self.ranges = True
        self.seen: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        wanted = self.headers.get("Range")
        self.server.seen.append((self.command, self.path, wanted))
        content = self.server.files.get(self.path)
        status = self.server.status.pop(0) if self.server.status else 200 if content is not None else 404
        if status != 200 or content is None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if self.path.startswith("/timm/"):
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content) > 0:
            status, start = 416, len(content)
        self.send_response(206 if start and status == 200 else status)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", hashlib.sha1(content, usedforsecurity=False).hexdigest())
        self.end_headers()
        if not body:
            return
        if self.server.cut:
            self.wfile.write(content[start : start + self.server.cut.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A running server; downloads go to it, and into a cache of this test's own."""
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    with FileServer() as running:
        monkeypatch.setenv("RESIGHT_WEIGHTS_MIRROR", running.url)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
