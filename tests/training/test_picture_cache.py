"""Decoded pictures on the disk: found again, never wrong, bounded, and never in the way of training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resight.errors import UndecodableImage, UsageError
from resight.images import geometry
from resight.runs.storage import CACHE_TAG
from resight.samples import Sample
from resight.training import picture_cache, prepare, reading
from resight.training.loader import Disk, Pictures, TrainLoader
from resight.training.picture_cache import PictureCache, content_key
from resight.training.shard import ABOUT, INDEX, PIXELS, RECORD, remove, stored

from .tiny import load, tiny_config

PREPARATION = {"geometry": {"size": 8}, "channels": 3}


def picture(number: int) -> np.ndarray:
    """Of a size of its own, a function of its number."""
    shape = (5 + number % 7, 6 + number % 5, 1 + 2 * (number % 2))
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def key(number: int) -> bytes:
    return content_key(str(number).encode())


def opened(root: Path, said: list[str] | None = None, **changes: Any) -> PictureCache:
    options: dict[str, Any] = {"data": "/data", "limit": 2**24, "say": (said if said is not None else []).append}
    preparation = changes.pop("preparation", PREPARATION)
    return PictureCache(root, preparation, **(options | changes))


def fill(cache: PictureCache, numbers: range) -> None:
    for number in numbers:
        assert cache.put(key(number), picture(number)) is not None


def check_all(cache: PictureCache, numbers: range) -> None:
    for number in numbers:
        place = cache.find(key(number))
        assert place is not None, number
        np.testing.assert_array_equal(cache.view(place), picture(number))


def only(root: Path, name: str) -> Path:
    (found,) = root.rglob(name)
    return found


def test_what_was_put_is_found_by_the_next(tmp_path: Path) -> None:
    first = opened(tmp_path)
    places = [first.put(key(n), picture(n)) for n in range(50)]
    for number, place in enumerate(places):
        assert place is not None
        np.testing.assert_array_equal(first.view(place), picture(number))
    second = opened(tmp_path)
    check_all(second, range(50))
    assert second.find(key(50)) is None
    view = second.view(second.find(key(3)) or (0, 0))
    assert view is not None
    assert not view.flags.writeable
    fill(second, range(50, 60))
    check_all(opened(tmp_path), range(60))


def test_one_process_sees_what_another_writes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_cache, "_REFRESH", 0.0)
    first, second = opened(tmp_path), opened(tmp_path)
    for number in range(10):
        writer, reader = (first, second) if number % 2 else (second, first)
        fill(writer, range(number, number + 1))
        reader._next_look = 0.0
        check_all(reader, range(number + 1))


def test_another_preparation_shares_nothing(tmp_path: Path) -> None:
    fill(opened(tmp_path), range(3))
    other = opened(tmp_path, preparation={**PREPARATION, "channels": 1})
    assert other.find(key(0)) is None
    fill(other, range(3))
    assert len(list(stored(tmp_path))) == 2
    assert {shard.about["preparation"]["channels"] for shard in stored(tmp_path)} == {1, 3}


# ── crashes and damage ─────────────────────────────────────────────────────────────────────────────────────────

WRITER = """
import sys
from pathlib import Path
from tests.training.test_picture_cache import fill, opened
print("ready", flush=True)
cache = opened(Path(sys.argv[1]))
fill(cache, range(100_000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_writer_leaves_only_whole_pictures(tmp_path: Path) -> None:
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        while not any(path.stat().st_size > 4000 * (attempt + 1) for path in tmp_path.rglob(INDEX)):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        said: list[str] = []
        cache = opened(tmp_path, said)
        cache.find(key(0))
        count = sum(shard.count for shard in cache._shards)
        assert count >= 100 * (attempt + 1)
        check_all(cache, range(100))
        assert said == []
        assert all(remove(shard.path) for shard in stored(tmp_path))  # the lock went with the process


@pytest.mark.parametrize("lost", [1, 17, RECORD.itemsize, 3 * RECORD.itemsize + 5])
def test_a_torn_index_loses_its_last_pictures_only(tmp_path: Path, lost: int) -> None:
    fill(opened(tmp_path), range(20))
    index = only(tmp_path, INDEX)
    os.truncate(index, index.stat().st_size - lost)
    left = 20 - -(-lost // RECORD.itemsize)
    cache = opened(tmp_path)
    check_all(cache, range(left))
    assert all(cache.find(key(number)) is None for number in range(left, 20))


@pytest.mark.parametrize("name", [PIXELS, INDEX])
def test_a_flipped_bit_is_noticed_said_and_never_shown(tmp_path: Path, name: str) -> None:
    fill(opened(tmp_path), range(20))
    path = only(tmp_path, name)
    data = bytearray(path.read_bytes())
    at = RECORD.itemsize * 7 + 16 if name == INDEX else len(data) // 2  # the offset of a picture, or a pixel
    data[at] ^= 4
    path.write_bytes(data)
    said: list[str] = []
    cache = opened(tmp_path, said)
    for number in range(20):
        place = cache.find(key(number))
        view = cache.view(place) if place else None
        assert view is None or view.tobytes() == picture(number).tobytes()
    assert len(said) == 1
    assert "is damaged: removed" in said[0]
    assert not path.exists()
    fill(cache, range(20))
    check_all(opened(tmp_path), range(20))


def test_pixels_that_are_cut_off_are_noticed(tmp_path: Path) -> None:
    fill(opened(tmp_path), range(20))
    os.truncate(only(tmp_path, PIXELS), 300)
    said: list[str] = []
    cache = opened(tmp_path, said)
    assert not any(cache.find(key(number)) for number in range(20))
    assert len(said) == 1
    assert "is damaged: removed" in said[0]
    fill(cache, range(20))
    check_all(opened(tmp_path), range(20))


CUT = """
import os, sys
from pathlib import Path
from tests.training.test_picture_cache import PIXELS, key, only, opened
said = []
cache = opened(Path(sys.argv[1]), said)
places = [cache.find(key(n)) for n in range(20)]
assert (cache.view(places[0]) == 0).all()
os.truncate(only(Path(sys.argv[1]), PIXELS), 300)
assert [cache.view(place) is None for place in places[10:]] == [True] * 10
assert len(said) == 1 and "is damaged: removed" in said[0], said
"""


def test_pixels_that_are_cut_off_while_they_are_read_do_not_end_the_process(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    for number in range(20):
        writer.put(key(number), np.full((100, 100, 3), number, np.uint8))  # many pages of memory
    writer.close()
    result = subprocess.run([sys.executable, "-c", CUT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_damaged_shard_that_is_being_written_is_left_to_its_writer(tmp_path: Path) -> None:
    writer, said = opened(tmp_path), list[str]()
    fill(writer, range(20))
    path = only(tmp_path, PIXELS)
    path.write_bytes(bytes(path.stat().st_size))
    cache = opened(tmp_path, said)
    assert cache.view(cache.find(key(3)) or (9, 9)) is None
    assert "is damaged: not read any more" in said[0]
    assert path.exists()


def test_a_huge_index_takes_no_memory(tmp_path: Path) -> None:
    fill(opened(tmp_path), range(20))
    os.truncate(only(tmp_path, INDEX), 2**36)  # with a hole
    said: list[str] = []
    cache = opened(tmp_path, said)
    assert cache.find(key(3)) is None
    assert len(said) == 1
    assert "is damaged" in said[0]


@pytest.mark.parametrize("shape", [(9, 8, 3), (8, 8, 1)])
def test_pictures_that_the_preparation_does_not_make_are_not_taken(tmp_path: Path, shape: tuple[int, ...]) -> None:
    writer = opened(tmp_path)
    writer.put(key(0), np.zeros((8, 8, 3), np.uint8))
    writer.put(key(1), np.zeros(shape, np.uint8))
    writer.close()
    said: list[str] = []
    cache = opened(tmp_path, said, fits=lambda h, w, c: (h == 8) & (w == 8) & (c == 3))
    assert cache.find(key(1)) is None
    assert "is damaged" in said[0]


# ── other people ───────────────────────────────────────────────────────────────────────────────────────────────

posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are those of POSIX")


@posix
def test_folders_and_files_are_closed_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        fill(opened(tmp_path / "pictures"), range(3))
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "pictures").rglob("*") if p.name != ".lock"}
    assert (tmp_path / "pictures").stat().st_mode & 0o777 == 0o700
    assert {name: modes.pop(name) for name in (ABOUT, PIXELS, INDEX)} == dict.fromkeys((ABOUT, PIXELS, INDEX), 0o600)
    assert {modes[name] for name in modes if name != CACHE_TAG} == {0o700}


@posix
@pytest.mark.parametrize("name", [".", ABOUT, PIXELS, INDEX])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_may_write_to_is_named_and_not_read(tmp_path: Path, name: str, mode: int) -> None:
    fill(opened(tmp_path), range(3))
    path = only(tmp_path, PIXELS).parent / name
    path.chmod(path.stat().st_mode | mode)
    said: list[str] = []
    cache = opened(tmp_path, said)
    places = [cache.find(key(number)) for number in range(3)]
    assert not any(cache.view(place) is not None for place in places if place)
    assert len(said) == 1
    assert str(path if name != "." else path.parent) in said[0]
    assert "others may write to it" in said[0]
    assert path.exists()


@posix
def test_what_another_user_owns_is_neither_read_nor_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(opened(tmp_path), range(3))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    said: list[str] = []
    cache = opened(tmp_path, said)
    assert cache.find(key(0)) is None
    assert cache.put(key(9), picture(9)) is None
    assert ["belongs to another user" in text for text in said] == [True, True]
    assert not any(remove(shard.path) for shard in stored(tmp_path))


@posix
@pytest.mark.parametrize("name", [ABOUT, PIXELS, INDEX])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_only_regular_files_are_opened(tmp_path: Path, name: str, kind: str) -> None:
    fill(opened(tmp_path), range(3))
    path = only(tmp_path, name)
    path.rename(tmp_path / name)
    {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda p: p.symlink_to(tmp_path / name)}[kind](path)
    said: list[str] = []
    cache = opened(tmp_path, said)

    def look() -> None:
        places = [cache.find(key(number)) for number in range(3)]
        assert not any(cache.view(place) is not None for place in places if place)
        assert len(list(stored(tmp_path))) == 1
        said.append("done")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(20)
    assert said[-1] == "done"  # a pipe that nobody writes to makes nobody wait
    assert len(said) == 2


# ── what disappears ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_shard_that_was_removed_is_no_trouble(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    fill(writer, range(5))
    writer.close()
    said: list[str] = []
    reader = opened(tmp_path, said)
    places = [reader.find(key(number)) for number in range(5)]
    assert all(remove(shard.path) for shard in stored(tmp_path))
    assert [reader.view(place or (9, 9)) for place in places] == [None] * 5
    assert reader.find(key(0)) is None
    reader._next_look = 0.0
    assert reader.find(key(0)) is None
    assert said == []
    fill(reader, range(5))
    check_all(opened(tmp_path), range(5))


def test_looking_at_a_picture_is_use(tmp_path: Path) -> None:
    fill(opened(tmp_path), range(2))
    cache = opened(tmp_path)
    place = cache.find(key(0))
    assert place is not None
    cache._shards[place[0]]._touched = float("-inf")  # a minute later
    os.utime(only(tmp_path, ABOUT), (0, 0))
    assert cache.view(place) is not None
    assert next(iter(stored(tmp_path))).used > 1e9


def test_only_what_a_shard_is_made_of_is_removed(tmp_path: Path) -> None:
    fill(opened(tmp_path), range(2))
    shard = only(tmp_path, ABOUT).parent
    (shard / "letter.txt").write_text("mine")
    (shard.parent / "letters").mkdir()
    (shard.parent / "letters" / "letter.txt").write_text("mine")
    assert [found.path for found in stored(tmp_path)] == [shard]
    assert not remove(shard)
    assert len(list(tmp_path.rglob("letter.txt"))) == 2


@pytest.mark.parametrize("about", [b"", b"{", b"[]", b'{"format": 99}', b'{"format": 1, "preparation": {"x": 1}}'])
def test_a_shard_that_says_something_else_is_not_read(tmp_path: Path, about: bytes) -> None:
    fill(opened(tmp_path), range(3))
    only(tmp_path, ABOUT).write_bytes(about)
    assert opened(tmp_path).find(key(0)) is None


# ── room ───────────────────────────────────────────────────────────────────────────────────────────────────────


def total(root: Path) -> int:
    return sum(shard.size for shard in stored(root))


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    block = np.zeros((100, 100, 3), np.uint8)
    for age, name in enumerate(("old", "older", "used")):
        cache = opened(tmp_path, limit=100_000, data=name)
        assert cache.put(key(age), block)
        cache.close()
    for shard in stored(tmp_path):
        os.utime(shard.path / ABOUT, (0, {"older": 1000, "old": 2000, "used": 3000}[shard.about["data"]]))
    reader = opened(tmp_path, data="reader")
    assert reader.find(key(0)) is not None  # used again: now the newest
    said: list[str] = []
    new = opened(tmp_path, said, limit=110_000, data="new", preparation={"other": 1})
    assert new.put(key(9), block)
    left = {shard.about["data"] for shard in stored(tmp_path)}
    assert left == {"old", "used", "new"}
    assert total(tmp_path) <= 110_000 + 1000
    assert said == []


def test_a_full_cache_says_so_once_and_stays_within_its_limit(tmp_path: Path) -> None:
    said: list[str] = []
    cache = opened(tmp_path, said, limit=50_000)
    kept = [cache.put(content_key(bytes([n])), np.zeros((50, 50, 3), np.uint8)) for n in range(20)]
    assert sum(place is not None for place in kept) == 6
    assert total(tmp_path) <= 50_000
    assert len(said) == 1
    assert "is full" in said[0]


def test_what_another_process_writes_is_not_removed(tmp_path: Path) -> None:
    writer = opened(tmp_path, limit=100_000, preparation={"other": 1})
    assert writer.put(key(0), np.zeros((100, 100, 3), np.uint8))
    said: list[str] = []
    assert opened(tmp_path, said, limit=40_000).put(key(1), np.zeros((60, 60, 3), np.uint8)) is None
    assert "is full" in said[0]
    assert len(list(stored(tmp_path))) == 1
    writer.close()
    assert opened(tmp_path, limit=40_000).put(key(1), np.zeros((60, 60, 3), np.uint8))


def test_removed_pictures_stay_readable_for_those_who_read_them(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    fill(writer, range(5))
    writer.close()
    reader = opened(tmp_path)
    check_all(reader, range(5))
    assert all(remove(shard.path) for shard in stored(tmp_path))
    check_all(reader, range(5))


def test_a_place_that_cannot_be_written_is_said_and_not_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    said: list[str] = []
    cache = opened(tmp_path / "file" / "pictures", said)
    assert cache.find(key(0)) is None
    assert cache.put(key(0), picture(0)) is None
    assert cache.put(key(1), picture(1)) is None
    assert len(said) == 1
    assert "cannot be kept" in said[0]


FULL = """
import resource, sys
from pathlib import Path
from tests.training.test_picture_cache import check_all, key, opened, picture
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
said = []
cache = opened(Path(sys.argv[1]), said)
places = [cache.put(key(n), picture(n)) for n in range(100)]
kept = sum(place is not None for place in places)
assert 10 < kept < 60 and places[kept:] == [None] * (100 - kept), kept
check_all(cache, range(kept))
check_all(opened(Path(sys.argv[1])), range(kept))
assert len(said) == 1 and "cannot be kept" in said[0], said
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes are limited in the POSIX way")
def test_a_disk_that_takes_no_more_is_said_and_what_is_there_stays(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_many_threads(tmp_path: Path) -> None:
    cache, failures = opened(tmp_path), []

    def work(start: int) -> None:
        try:
            for number in range(start, start + 60):
                place = cache.find(key(number)) or cache.put(key(number), picture(number))
                assert place is not None
                np.testing.assert_array_equal(cache.view(place), picture(number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(20 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    check_all(opened(tmp_path), range(160))


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from tests.training.test_picture_cache import key, opened

def own():  # memory that is this process's alone: not the mapped file
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

cache, block = opened(Path(sys.argv[1]), limit=2**30), np.zeros((100, 100, 3), np.uint8)
places = [cache.put(key(0), block)]
before = own()
places += [cache.put(key(n), block) for n in range(1, 3000)]
for place in places:
    assert cache.view(place).sum() == 0
print(own() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_pixels(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 8 * 1024  # KiB, for 90 MB of pixels


# ── as training uses it ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """JPEG files of several sizes; two of them are equal."""
    random = np.random.default_rng(0)
    for number in range(36):
        size = (30 + 9 * (number % 5), 40 + 7 * (number % 3))
        pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        path = tmp_path / "photos" / f"class {number % 3}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)
    (tmp_path / "photos" / "class 0" / "0.jpg").write_bytes((tmp_path / "photos" / "class 0" / "3.jpg").read_bytes())
    return tmp_path / "photos"


def batches(data: Path, **changes: Any) -> tuple[list[torch.Tensor], list[str], int]:
    """Pixels of three epochs, what was said, and how many pictures were decoded."""
    said: list[str] = []
    wishes = {f"data.{name}": value for name, value in changes.items() if name != "crop"}
    config = tiny_config(data, {"augment.crop": changes.get("crop", "resized")} | wishes)
    pictures = reading.train_pictures(load(data), config, said.append)
    decode, decoded = pictures._read, [0]

    def counting(*arguments: Any) -> np.ndarray:
        decoded[0] += 1
        return decode(*arguments)

    pictures._read = counting
    loader = TrainLoader(pictures, config)
    found = [batch.pixels for batch in loader.batches(0, 3 * loader.steps_per_epoch)]
    return found, said, decoded[0]


@pytest.mark.parametrize("crop", ["resized", "shift"])
def test_where_pictures_are_kept_changes_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: str
) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    plain, _, often = batches(photos, crop=crop, cache_gb=0, disk_cache_gb=0)
    for changes in (
        {"cache_gb": 1},
        {"cache_gb": 0},
        {"cache_gb": 0, "workers": 3},
        {"cache_gb": 2e-5},  # about three pictures
        {"cache_gb": 2e-5, "disk_cache_gb": 0},
        {"cache_gb": 0, "disk_cache_gb": 5e-5},
    ):
        found, _, _ = batches(photos, crop=crop, **changes)
        assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True)), changes
    assert often == 72


def test_a_second_training_decodes_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    first, said, decoded = batches(photos, cache_gb=0)
    assert decoded == len({path.read_bytes() for path in photos.rglob("*.jpg")} & _trained(photos))
    moved = photos.rename(tmp_path / "elsewhere")
    second, said_again, decoded_again = batches(moved, cache_gb=0)
    assert (decoded_again, said, said_again) == (0, [], [])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert batches(moved, cache_gb=0, train_size=32)[2] > 0  # another geometry


def _trained(photos: Path) -> set[bytes]:
    samples = load(photos)
    return {samples.file_bytes(sample) for sample in samples.part("train")}


def test_a_changed_file_is_decoded_again(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    batches(photos, cache_gb=0)
    sample = load(photos).part("train")[4]
    path, times = photos / sample.source, (photos / sample.source).stat()
    Image.fromarray(np.full((44, 44, 3), 200, np.uint8)).save(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # neither the time nor the name tells
    config = tiny_config(photos, {"augment.crop": "resized", "data.cache_gb": 0})
    assert (reading.train_pictures(load(photos), config)[4] == 200).all()


def test_pictures_that_were_removed_meanwhile_are_decoded_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    plain, _, _ = batches(photos, cache_gb=0)
    said: list[str] = []
    config = tiny_config(photos, {"augment.crop": "resized", "data.cache_gb": 0})
    loader = TrainLoader(reading.train_pictures(load(photos), config, said.append), config)
    loader.pictures._disk.cache.find(bytes(16))  # type: ignore[union-attr]  # knows all shards, has opened none
    assert all(remove(shard.path) for shard in stored(tmp_path / "cache" / "pictures"))
    found = [batch.pixels for batch in loader.batches(0, 3 * loader.steps_per_epoch)]
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert said == []
    assert batches(photos, cache_gb=0)[2] == 0


@pytest.mark.parametrize("change", ["rules", "pillow"])
def test_another_decoder_makes_other_pictures(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    first = batches(photos, cache_gb=0)[2]
    versions = reading.decoder_versions()
    monkeypatch.setattr(reading, "decoder_versions", lambda: versions | {change: "other"})
    assert batches(photos, cache_gb=0)[2] == first


@pytest.mark.parametrize("kind", ["idx", "cifar"])
def test_a_disk_cache_for_array_files_is_refused(photos: Path, kind: Any) -> None:
    samples = replace(load(photos), kind=kind)
    sizes = np.full((36, 2), 40)
    small = {"data.image_size": 28, "data.channels": 3}
    prepare.configure(samples, sizes, small, None)
    with pytest.raises(UsageError, match=r"data\.disk_cache_gb has no effect"):
        prepare.configure(samples, sizes, {**small, "data.disk_cache_gb": 5}, None)


def test_squares_that_are_rows_of_a_larger_picture_keep_only_themselves() -> None:
    def read(sample: Sample) -> np.ndarray:
        return geometry.Geometry("crop", 8, 8).apply(np.zeros((80, 8, 3), np.uint8))

    kept = Pictures([Sample("a.png", None, 0, "train")], read, 2**20)
    kept[0]
    assert kept[0].base is None
    assert kept[0].shape == (8, 8, 3)


def test_a_bad_file_fails_as_without_a_cache(tmp_path: Path) -> None:
    def read(sample: Sample, data: bytes | None = None) -> np.ndarray:
        raise UndecodableImage("broken", source=sample.source)

    sample = Sample("a.jpg", None, 0, "train")
    for room in (0, 2**20):
        pictures = Pictures([sample], read, room, Disk(opened(tmp_path), lambda _: b"x"))
        with pytest.raises(UndecodableImage, match=r"a\.jpg: broken"):
            pictures[0]


def test_a_damaged_cache_is_replaced_while_training(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    plain, _, first = batches(photos, cache_gb=0)
    path = only(tmp_path / "cache", PIXELS)
    path.write_bytes(bytes(path.stat().st_size))
    found, said, again = batches(photos, cache_gb=0)
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert (again, len(said)) == (first, 1)
    assert batches(photos, cache_gb=0)[1:] == ([], 0)


TRAINING = """
import sys
from pathlib import Path
from tests.training.test_picture_cache import batches
from tests.training.test_options import sha
found, said, decoded = batches(Path(sys.argv[1]), cache_gb=0)
print(sha(*found), said, decoded)
"""


def test_two_trainings_at_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    command = [sys.executable, "-c", TRAINING, str(photos)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0].split() for process in processes]
    assert answers[0][0] == answers[1][0]
    assert [answer[1] for answer in answers] == ["[]", "[]"]
    assert batches(photos, cache_gb=0)[2] == 0
