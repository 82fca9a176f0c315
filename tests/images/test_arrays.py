"""``.npy`` files: what is read, and what hostile ones cannot do."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resight.errors import ImageError, ImageTooLarge, UndecodableImage, UnsupportedImage
from resight.images import decode, decode_with_info, probe, verify


def saved(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def made(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """A file with any header, as NEP 1 lays it out."""
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + text + body


def described(shape: object, descr: str = "|u1", fortran: bool = False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16])
def test_the_pixels_are_those_that_were_saved(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    path = tmp_path / "a.npy"
    np.save(path, pixels)
    for source in (path, path.read_bytes()):
        found, info = decode_with_info(source, channels=channels)
        assert np.array_equal(found, pixels)
        assert found.flags.writeable
        assert (info.format, info.width, info.height, info.channels) == ("NPY", 7, 5, channels)
        assert (info.mode, info.orientation, info.extension_matches) == (f"uint8[{channels}]", 1, True)
        assert probe(source) == verify(source) == info
    assert not probe(pathless(path, "a.png")).extension_matches


def pathless(path: Path, name: str) -> Path:
    other = path.with_name(name)
    other.write_bytes(path.read_bytes())
    return other


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bits_are_divided_by_257_rounded_half_up(order: str) -> None:
    values = np.arange(0, 65536, 13).astype(order)[:5040].reshape(70, 24, 3)
    exact = (values.astype(np.int64) * 2 + 257) // 514
    assert np.array_equal(decode(saved(values), channels=3), exact)


def test_two_dimensions_are_grey_and_grey_becomes_rgb() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (4, 5), dtype=np.uint8)
    assert np.array_equal(decode(saved(grey), channels=1)[:, :, 0], grey)
    assert np.array_equal(decode(saved(grey), channels=3), np.repeat(grey[:, :, None], 3, axis=2))
    with pytest.raises(UnsupportedImage, match="1 channel; expected 5"):
        decode(saved(grey), channels=5)
    with pytest.raises(UnsupportedImage, match="it has 5 channels; expected 3"):
        decode(saved(np.zeros((4, 4, 5), np.uint8)))


def test_version_2_is_read() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(decode(made(described((2, 3, 4)), pixels.tobytes(), (2, 0)), channels=4), pixels)


class Canary:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "it ran")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    stream = io.BytesIO()
    np.save(stream, np.array([[Canary(canary)]], object), allow_pickle=True)
    hidden = made(described((1, 1), "|u1"), pickle.dumps(Canary(canary)))
    for data in (stream.getvalue(), made(described((1, 1, 1), "|O"), pickle.dumps(Canary(canary)))):
        with pytest.raises(UnsupportedImage, match="Python objects"):
            decode(data)
    with pytest.raises(UndecodableImage, match="goes on behind its end"):
        decode(hidden)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("header", "kind", "said"),
    [
        (described((100_000, 100_000, 3)), ImageTooLarge, "limit"),
        (described((7_000, 7_000, 16)), ImageTooLarge, "million values"),
        (described(f"({10**400}, 1, 3)"), ImageTooLarge, "no picture has"),
        (described((2**31, 1, 1)), ImageTooLarge, "no picture has"),
        (described((4000, 4000, 3)), UndecodableImage, "cut off"),
        (described((0, 4, 3)), UndecodableImage, "at least 1 × 1"),
        (described((-4, 4, 3)), UndecodableImage, "at least 1 × 1"),
        (described((4, 4, 0)), UnsupportedImage, "shape"),
        (described((4, 4, 17)), UnsupportedImage, "1 to 16 channels"),
        (described((5, 64, 64)), UnsupportedImage, "shape"),
        (described((2, 4, 4, 3)), UnsupportedImage, "shape"),
        (described((4,)), UnsupportedImage, "shape"),
        (described("()"), UnsupportedImage, "shape"),
        (described((4, 4, 3), fortran=True), UnsupportedImage, "Fortran order"),
        (described((4, 4, 3), "<f4"), UnsupportedImage, "float32"),
        (described((4, 4, 3), "|i1"), UnsupportedImage, "int8"),
        (described((4, 4, 3), "<u4"), UnsupportedImage, "uint32"),
        (described((4, 4, 3), "|b1"), UnsupportedImage, "bool"),
        (described((4, 4, 3), "|V9"), UnsupportedImage, "V9"),
        (described((4, 4, 3), "<M8[s]"), UnsupportedImage, "datetime64"),
        ("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (4, 4, 3)}", UnsupportedImage, "expected uint8"),
        ("__import__('os').system('true')", UndecodableImage, "header"),
        ("{'descr': '|u1'}", UndecodableImage, "header"),
        ("(" * 2000, UndecodableImage, "header"),
        (described("(4, 4, True)"), UnsupportedImage, "shape"),
        (described("(4, 4, 3.0)"), UndecodableImage, "header"),
        ("", UndecodableImage, "header"),
    ],
)
def test_hostile_headers_are_refused_before_memory_is_taken(header: str, kind: type[ImageError], said: str) -> None:
    data = made(header, bytes(48))
    for use in (decode, probe, verify):
        tracemalloc.start()
        try:
            with pytest.raises(kind, match=said):
                use(data)
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_whole_numbers_of_python_2_are_refused_without_a_warning(version: tuple[int, int]) -> None:
    """NumPy would read them, and say so on the terminal."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(UndecodableImage, match="header cannot be read"):
            decode(made(described("(4L, 4L, 3L)"), bytes(48), version))
    assert not said


def test_a_header_that_says_it_is_gigabytes_long_is_not_read() -> None:
    data = made(described((4, 4, 3)), bytes(48), (2, 0), length=2**32 - 1)
    with pytest.raises(UndecodableImage, match="header"):
        decode(data)
    with pytest.raises(UndecodableImage, match="header"):
        decode(made(described((4, 4, 3)), bytes(48), (3, 0)))


def test_channels_first_are_told_how_to_be_last() -> None:
    with pytest.raises(UnsupportedImage) as caught:
        decode(saved(np.zeros((5, 64, 64), np.uint8)))
    assert "moveaxis" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 200), at=st.integers(0, 199), value=st.integers(0, 255))
def test_damage_anywhere_is_an_image_error_or_a_picture(cut: int, at: int, value: int) -> None:
    whole = bytearray(saved(np.zeros((4, 6, 3), np.uint8)))
    whole[at] = value
    try:
        pixels = decode(bytes(whole[: len(whole) - cut]))
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


@settings(max_examples=150, deadline=None)
@given(header=st.text(alphabet="{}()[]'\",:0123456789LTrueFals |<u1dscrfon_phae\\", max_size=60))
def test_any_text_as_a_header_is_an_image_error(header: str) -> None:
    with pytest.raises(ImageError):
        probe(made(header, bytes(48)))
