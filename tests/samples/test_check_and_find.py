"""Every picture decoded once; pictures found for prediction; natural order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.errors import DataError, UsageError
from resight.samples import check_files, find_images, load, natural_key

from .conftest import MakeImages, save_picture


def test_bad_and_misnamed_files_are_listed(make_images: MakeImages) -> None:
    root = make_images({"a": 8, "b": 8})
    (root / "a" / "3.png").write_bytes(b"")
    (root / "a" / "5.png").write_bytes(b"<html>Not found</html>")
    (root / "b" / "2.png").write_bytes((root / "b" / "2.png").read_bytes()[:60])
    save_picture(root / "b" / "4.png", fmt="GIF")
    seen: list[tuple[int, int]] = []
    samples = load(root)
    report = check_files(samples, threads=3, progress=lambda done, total: seen.append((done, total)))
    assert [source for source, _ in report.bad] == ["a/3.png", "a/5.png", "b/2.png"]
    empty, html, cut = (reason for _, reason in report.bad)
    assert "empty" in empty
    assert "HTML" in html
    assert "cut off" in cut
    assert report.misnamed == [("b/4.png", "GIF")]
    assert report.sizes.tolist() == [[8, 6]] * 13
    assert seen == [(done, 16) for done in range(1, 17)]
    good = samples.without(report.bad)
    assert len(good) == 13
    assert check_files(good, threads=1).bad == []


def test_real_photos_are_good(clothing: Path) -> None:
    report = check_files(load(clothing), threads=2)
    assert (report.bad, report.misnamed) == ([], [])
    assert report.sizes.shape == (1341, 2)
    assert report.sizes.min() > 50


def test_a_bug_while_checking_is_not_swallowed(make_images: MakeImages) -> None:
    samples = load(make_images({"a": 20, "b": 20}))

    def progress(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_files(samples, threads=2, progress=progress)
    with pytest.raises(UsageError, match="threads"):
        check_files(samples, threads=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("10.png", "2.png", "1.JPG", "deep/er/3.webp", ".hidden.png", "deep/.git/x.png"):
        save_picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    return tmp_path


def names(root: Path, found: list[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_folders_in_natural_order(photos: Path) -> None:
    assert names(photos, find_images([photos])) == ["1.JPG", "2.png", "10.png", "deep/er/3.webp"]
    assert names(photos, find_images([str(photos / "deep")])) == ["deep/er/3.webp"]


def test_patterns(photos: Path) -> None:
    assert names(photos, find_images([f"{photos}/*.png"])) == ["2.png", "10.png"]
    assert names(photos, find_images([f"{photos}/**/*.webp"])) == ["deep/er/3.webp"]
    assert names(photos, find_images([f"{photos}/d*"])) == ["deep/er/3.webp"]


def test_named_files_are_taken_as_they_are_and_once(photos: Path) -> None:
    save_picture(photos / "[1].png")  # a name, not a pattern
    given: list[str | Path] = [
        photos / "notes.txt",
        photos / "[1].png",
        photos / "deep" / ".." / "2.png",
        f"{photos}/2.png",
    ]
    assert [path.name for path in find_images(given)] == ["notes.txt", "[1].png", "2.png"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("missing.png", "no file or folder"),
        ("*.tiff", "nothing matches"),
        ("empty", "no pictures in"),
        ("a\0b", "cannot be opened|no file or folder"),
    ],
)
def test_nothing_found(photos: Path, given: str, words: str) -> None:
    (photos / "empty").mkdir()
    with pytest.raises(UsageError, match=words):
        find_images([f"{photos}/{given}"])


@pytest.mark.parametrize("address", ["http://example.org/a.jpg", "HTTPS://x/y", "s3://b/c.png", "file:///etc/x.png"])
def test_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is an address"):
        find_images([address])


def test_nothing_given() -> None:
    with pytest.raises(UsageError, match="no pictures were given"):
        find_images([])


@pytest.mark.parametrize("given", [[""], ["photos", ""]])
def test_an_empty_name_is_not_the_current_folder(
    photos: Path, monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    save_picture(photos / "photos" / "1.png")
    monkeypatch.chdir(photos)
    with pytest.raises(UsageError, match="empty name"):
        find_images(given)


def test_links_out_of_a_folder_are_refused(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    save_picture(outside)
    (photos / "link.png").symlink_to(outside)
    with pytest.raises(DataError, match="leads out of"):
        find_images([photos])
    assert find_images([photos / "link.png"]) == [photos / "link.png"]  # named by the person: meant


@given(
    st.lists(st.integers(0, 10**30), min_size=1),
    st.text(st.characters(exclude_categories=["Nd"]), max_size=3),
)
def test_numbers_count_as_numbers(numbers: list[int], text: str) -> None:
    found = sorted((f"{text}{number}" for number in numbers), key=natural_key)
    assert found == [f"{text}{number}" for number in sorted(numbers)]


@given(st.lists(st.text(max_size=6), unique=True))
def test_a_total_order(texts: list[str]) -> None:
    keys = [natural_key(text) for text in texts]
    assert len(set(keys)) == len(keys)
    assert sorted(texts, key=natural_key) == sorted(set(texts), key=natural_key)


def test_natural_order_of_usual_names() -> None:
    expected = ["01", "1", "2", "10", "A", "a", "a1b2", "a1b10", "B", "b", "é"]
    assert sorted(set(expected), key=natural_key) == expected
