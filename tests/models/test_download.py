"""Downloads: resumed, checked, and refused in words that say what to do."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path

import pytest

from resight.errors import DownloadError, StorageError
from resight.models.download import download, mirrored
from resight.runs.storage import cache_directory, exclusive

from .conftest import FileServer

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()[:8]
URL = f"https://download.pytorch.org/models/tiny-{SHA}.pth"


@pytest.fixture
def target(server: FileServer, tmp_path: Path) -> Path:
    server.files[f"/models/tiny-{SHA}.pth"] = CONTENT
    return tmp_path / "cache" / f"tiny-{SHA}.pth"


def leftovers(target: Path) -> set[str]:
    return {p.name for p in target.parent.iterdir()} - {".lock"}


def test_a_file_is_fetched_once(server: FileServer, target: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    assert download(URL, target, sha256=SHA, progress=lambda *step: steps.append(step)) == target
    assert target.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert leftovers(target) == {target.name}
    download(URL, target, sha256=SHA)
    assert len(server.seen) == 1


def test_a_cut_connection_is_resumed_in_the_same_call(server: FileServer, target: Path) -> None:
    server.cut = [30_000, 20_000]
    download(URL, target, sha256=SHA)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, _, wanted in server.seen] == [None, "bytes=30000-", "bytes=50000-"]


def test_a_download_that_gave_up_is_resumed_by_the_next_call(server: FileServer, target: Path) -> None:
    server.cut = [1000] * 4
    with pytest.raises(DownloadError, match="broke off 4 times"):
        download(URL, target, sha256=SHA)
    assert leftovers(target) == {target.name + ".part"}
    download(URL, target, sha256=SHA)
    assert server.seen[-1][2] == "bytes=4000-"
    assert target.read_bytes() == CONTENT


def test_a_complete_part_is_not_fetched_again(server: FileServer, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.with_name(target.name + ".part").write_bytes(CONTENT)
    download(URL, target, sha256=SHA)
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(server: FileServer, target: Path) -> None:
    server.ranges, server.cut = False, [30_000]
    download(URL, target, sha256=SHA)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [False, True])
def test_a_wrong_hash_is_refused_and_removed(server: FileServer, target: Path, stale: bool) -> None:
    if stale:  # what an earlier call left belongs to another file
        target.parent.mkdir(parents=True)
        target.with_name(target.name + ".part").write_bytes(b"x" * 100)
    else:
        server.files[f"/models/tiny-{SHA}.pth"] = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match=f"expected {SHA}") as refused:
        download(URL, target, sha256=SHA)
    assert server.url in str(refused.value)
    assert leftovers(target) == set()


def test_a_wrong_file_put_there_by_hand_is_refused_and_kept(server: FileServer, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"something else")
    with pytest.raises(DownloadError, match="damaged or another file"):
        download(URL, target, sha256=SHA)
    assert target.read_bytes() == b"something else"
    assert not server.seen


def test_404_is_said_at_once_with_what_to_do(server: FileServer, target: Path) -> None:
    server.files.clear()
    with pytest.raises(DownloadError, match="answered 404") as refused:
        download(URL, target, sha256=SHA)
    assert len(server.seen) == 1
    assert str(target) in (refused.value.hint or "")
    assert server.url in refused.value.message


def test_a_passing_server_error_is_tried_again(server: FileServer, target: Path) -> None:
    server.status = [503, 500]
    download(URL, target, sha256=SHA)
    assert len(server.seen) == 3
    server.status = [503] * 9
    target.unlink()
    with pytest.raises(DownloadError, match="answered 503"):
        download(URL, target, sha256=SHA)


def test_no_network_says_where_it_tried_and_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:  # a port that nobody listens on
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RESIGHT_WEIGHTS_MIRROR", f"http://127.0.0.1:{port}/")
    target = tmp_path / "weights.pth"
    with pytest.raises(DownloadError) as refused:
        download(URL, target, sha256=SHA)
    assert f"http://127.0.0.1:{port}/models/tiny-{SHA}.pth" in refused.value.message
    assert str(target) in (refused.value.hint or "")
    assert "RESIGHT_WEIGHTS_MIRROR" in (refused.value.hint or "")


@pytest.mark.parametrize("mirror", ["file:///etc", "ftp://127.0.0.1"])
def test_only_http_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("RESIGHT_WEIGHTS_MIRROR", mirror)
    with pytest.raises(DownloadError, match="only http and https"):
        download("https://download.pytorch.org/passwd", tmp_path / "x", sha256="")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="read-only directories are a matter of POSIX permissions")
def test_a_place_that_cannot_be_written_is_a_storage_error(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        download(URL, tmp_path / "file" / "weights.pth", sha256=SHA)


def test_a_second_process_waits_and_then_finds_the_file(server: FileServer, target: Path) -> None:
    target.parent.mkdir(parents=True)
    done = threading.Event()

    def second() -> None:
        download(URL, target, sha256=SHA)
        done.set()

    thread = threading.Thread(target=second)
    with exclusive(target.parent):
        thread.start()
        assert not done.wait(0.3)
        target.write_bytes(CONTENT)
    thread.join(10)
    assert done.is_set()
    assert not server.seen


def test_where_things_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESIGHT_CACHE", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    assert cache_directory("weights") == Path("/home/somebody/.cache/resight/weights")
    monkeypatch.setenv("RESIGHT_CACHE", "~/elsewhere")
    assert cache_directory("runs") == Path("/home/somebody/elsewhere/runs")
    monkeypatch.setenv("RESIGHT_WEIGHTS_MIRROR", "https://mirror.example/torch/")
    assert mirrored(URL) == f"https://mirror.example/torch/models/tiny-{SHA}.pth"
    monkeypatch.delenv("RESIGHT_WEIGHTS_MIRROR")
    assert mirrored(URL) == URL
