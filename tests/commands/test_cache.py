"""``resight cache``: what it lists and what it removes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resight.commands.cache import KINDS, cache, table
from resight.errors import UsageError
from resight.inference.choose import remember
from resight.runs.storage import CACHE_TAG, is_cache, make_cache
from resight.training.picture_cache import PictureCache, content_key

PREPARATION = {
    "geometry": {"kind": "crop", "size": 64},
    "short": 90,
    "channels": 3,
    "versions": {},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with pictures of two data sets, weights and an imported Run."""
    root = tmp_path / "cache"
    monkeypatch.setenv("RESIGHT_CACHE", str(root))
    for count, name in ((1, "/data/cats"), (3, "/data/dogs\x1b[31m")):
        pictures = open_pictures(root, name)
        for number in range(count):
            assert pictures.put(content_key(f"{name}{number}".encode()), np.zeros((100, 100, 3), np.uint8))
        pictures.close()
    (make_cache(root / "weights") / "net.pth").write_bytes(bytes(2048))
    imported = make_cache(root / "runs") / "net-1"
    imported.mkdir()
    (imported / "run.json").write_bytes(b'{"source": "net.pth"}'.ljust(100))
    (imported / "model.onnx").write_bytes(bytes(200))
    (root / "mine").mkdir()
    (root / "mine" / "letter.txt").write_text("nobody's business")
    return root


def open_pictures(root: Path, data: str) -> PictureCache:
    return PictureCache(root / "pictures", PREPARATION, data=data, limit=2**30, say=print)


def test_everything_is_listed_with_its_size(root: Path) -> None:
    content = cache()
    found = [(row.kind, row.data or row.name, row.size) for row in content.rows]
    assert [(kind, name) for kind, name, _ in found] == [
        ("pictures", "/data/dogs\x1b[31m"),
        ("pictures", "/data/cats"),
        ("weights", "net.pth"),
        ("runs", "net-1"),
    ]
    assert [size for _, _, size in found[2:]] == [2048, 300]
    assert 90_000 < found[0][2] < 91_000
    assert content.limit == 2**30
    assert content.total == sum(size for _, _, size in found)
    assert content.rows[0].what == "whole pictures for crops of 64 px, RGB"
    text = "\n".join(table(content))
    assert "  88.2 KiB  " in text or "  88.3 KiB  " in text
    assert "at most 1.0 GiB" in text
    assert "\x1b" not in text
    assert "letter" not in text


def test_the_time_is_that_of_the_last_use(root: Path) -> None:
    for path in root.rglob("about.json"):
        os.utime(path, (1e9, 1e9))
    assert {row.used for row in cache().rows if row.kind == "pictures"} == {1e9}
    reader = open_pictures(root, "/other")
    assert reader.find(content_key(b"/data/cats0")) is not None
    assert sorted(row.used > 1e9 for row in cache().rows if row.kind == "pictures") == [False, True]


@pytest.mark.parametrize("kind", ["pictures", "weights", "runs", "data", "bench"])
def test_one_kind_is_removed(root: Path, kind: str) -> None:
    before = {row.kind for row in cache().rows}
    assert {row.kind for row in cache(kind).rows} == before - {kind}
    assert (root / "mine" / "letter.txt").exists()


def test_all_kinds_are_removed_and_nothing_else(root: Path) -> None:
    (root / "pictures" / "unknown").mkdir()
    (root / "pictures" / "unknown" / "letter.txt").write_text("nobody's business")
    assert cache("all").rows == ()
    left = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    tags = {f"{kind}/{CACHE_TAG}" for kind in ("pictures", "weights", "runs")}
    assert left == {"mine/letter.txt", "pictures/unknown/letter.txt"} | tags


# ── what is not a cache ────────────────────────────────────────────────────────────────────────────────────────


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("clear", ["runs", "data", "all"])
def test_folders_of_other_people_are_never_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clear: str) -> None:
    """RESIGHT_CACHE=. beside a project's own folders, which have the names of kinds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESIGHT_CACHE", ".")
    for name in ("runs/flowers-resnet18-1/run.json", "data/flowers/daisy/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    make_cache(tmp_path / "bench")
    (tmp_path / "bench" / "speed.json").write_text("{}")
    make_cache(tmp_path / "runs")  # it is there already, and stays what it is
    before = content(tmp_path)
    with pytest.raises(UsageError, match=rf"{CACHE_TAG}.*nothing was removed"):
        cache(clear)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", '{"source": ""}'),
        ("config.json", "{}"),
        ("split.csv", ""),
        ("metrics.jsonl", ""),
        ("checkpoints", ""),
    ],
)
def test_a_trained_run_is_never_removed(root: Path, name: str, text: str) -> None:
    run = root / "runs" / "flowers-resnet18-1"
    run.mkdir()
    (run / "run.json").write_text('{"source": "torchvision"}')
    (run / name).write_text(text)
    before = content(run)
    found = cache("all")
    assert content(run) == before
    assert found.kept == (str(run),)
    assert not (root / "runs" / "net-1").exists()
    text = "\n".join(table(found))
    assert "not removed, because it was not imported" in text
    assert "never cleared" in text
    assert found.to_dict()["kept"] == found.kept


def test_leftovers_of_imports_are_removed(root: Path) -> None:
    (root / "runs" / ".net-2.importing-77").mkdir()
    (root / "runs" / "net-3").mkdir()
    (root / "runs" / "net-3" / "run.json").write_bytes(b"damaged")
    assert cache("runs").kept == ()
    assert content(root / "runs") == {CACHE_TAG}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("kind", ["data", "pictures", "all"])
def test_links_are_not_followed(root: Path, tmp_path: Path, kind: str) -> None:
    target = make_cache(tmp_path / "elsewhere")
    (target / "letter.txt").write_text("mine")
    link = root / ("data" if kind == "all" else kind)
    if link.exists():
        link.rename(root / "away")
    link.symlink_to(target)
    before = content(root)
    with pytest.raises(UsageError, match="is a link"):
        cache(kind)
    assert content(root) == before
    assert (target / "letter.txt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_home_through_a_link_is_home(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").symlink_to(root)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match="nothing was removed"):
        cache("all")


def test_pictures_and_speeds_are_marked_as_a_cache(root: Path) -> None:
    remember("a" * 64, 2, 8, {})
    assert is_cache(root / "bench")
    assert is_cache(root / "pictures")
    assert not is_cache(root / "mine")


def test_the_tag_follows_the_convention_and_is_no_link(tmp_path: Path) -> None:
    made = make_cache(tmp_path / "a" / "weights")
    tag = made / "CACHEDIR.TAG"
    assert tag.read_bytes()[:43] == b"Signature: 8a477f597d28d172789f06886806bc55"
    assert is_cache(made)
    make_cache(made)
    assert not is_cache(tmp_path / "a")
    tag.write_bytes(b"Signature: something else")
    assert not is_cache(made)


@pytest.mark.parametrize("limit", ['"many"', "null", "[]", "1e999", "-1.5", "true"])
def test_a_limit_that_is_no_number_is_not_shown(root: Path, limit: str) -> None:
    for path in root.rglob("about.json"):
        path.write_text(path.read_text().replace(str(2**30), limit))
    found = cache()
    assert found.limit is None
    assert "at most" not in "\n".join(table(found))
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_a_training_is_writing_stays_and_is_named(root: Path) -> None:
    writer = open_pictures(root, "/data/birds")
    place = writer.put(content_key(b"bird"), np.zeros((9, 9, 3), np.uint8))
    assert place is not None
    content = cache("all")
    assert [row.data for row in content.rows] == ["/data/birds"]
    assert len(content.in_use) == 1
    assert "a training is writing there" in "\n".join(table(content))
    assert writer.view(place) is not None
    writer.close()
    assert cache("pictures").rows == ()


def test_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "missing"))
    assert cache().rows == cache("all").rows == ()
    assert list(table(cache())) == [f"0 B in {tmp_path / 'missing'}"]


def test_unknown_kinds_and_shared_folders_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="nothing called 'photos'") as caught:
        cache("photos")
    assert all(kind in str(caught.value.hint) for kind in KINDS)
    monkeypatch.setenv("HOME", str(root))
    with pytest.raises(UsageError, match="nothing was removed"):
        cache("all")
    assert (root / "weights" / "net.pth").exists()


def test_the_command_needs_no_torch(root: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from resight.cli import main; main()"
    line = [sys.executable, "-c", code, "cache"]
    shown = subprocess.run([*line, "--json"], capture_output=True, check=True)
    assert [row["kind"] for row in json.loads(shown.stdout)["rows"]] == ["pictures", "pictures", "weights", "runs"]
    cleared = subprocess.run([*line, "--clear", "weights"], capture_output=True, text=True, check=True)
    assert "weights" not in cleared.stdout
    refused = subprocess.run([*line, "--clear", "photos"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
