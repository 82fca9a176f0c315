"""torchvision's data sets by name, from a local server that stands in for theirs."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from resight.commands.preview import preview
from resight.errors import DownloadError, UsageError
from resight.runs.storage import cache_directory, is_cache
from resight.samples import load
from resight.training.named import data_path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def idx(values: np.ndarray) -> bytes:
    """The idx format of MNIST, gzipped."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves four idx files of 40 random pictures in the place of MNIST's mirrors."""
    folder = tmp_path / "served"
    folder.mkdir()
    random = np.random.default_rng(0)
    resources = []
    for part in ("train", "t10k"):
        pixels = random.integers(0, 256, (40, 28, 28), dtype=np.uint8)
        labels = (np.arange(40) % 10).astype(np.uint8)
        for name, values in ((f"{part}-images-idx3-ubyte.gz", pixels), (f"{part}-labels-idx1-ubyte.gz", labels)):
            (folder / name).write_bytes(idx(values))
            resources.append((name, hashlib.md5((folder / name).read_bytes()).hexdigest()))
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{running.server_port}/"])
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
        yield str(folder)
        running.shutdown()
        thread.join()


def test_a_named_data_set_is_downloaded_once_and_read(server: str) -> None:
    path = data_path("torchvision:MNIST")
    samples = load(path)
    assert {split: int(n.sum()) for split, n in samples.counts().items()}["test"] == 40
    for file in Path(server).iterdir():
        file.unlink()  # the second time nothing may be asked for
    assert data_path("torchvision:MNIST") == path
    assert is_cache(cache_directory("data"))


def test_a_file_with_another_hash_is_refused(server: str) -> None:
    (Path(server) / "t10k-labels-idx1-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(DownloadError, match="MNIST"):
        data_path("torchvision:MNIST")


def test_what_must_be_unpickled_is_not_offered() -> None:
    with pytest.raises(UsageError, match="CIFAR10") as error:
        data_path("torchvision:CIFAR10")
    assert "torchvision:FashionMNIST" in str(error.value)


def test_a_path_stays_a_path(tmp_path: Path) -> None:
    assert data_path(tmp_path) == tmp_path


def test_preview_takes_names_too(server: str, tmp_path: Path) -> None:
    out = preview("torchvision:MNIST", out=tmp_path / "sheet.png")
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
