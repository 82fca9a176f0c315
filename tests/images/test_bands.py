"""Numbers of channels: alpha as a channel, pages as channels, and what is refused, with both numbers."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.images.reference import read_png

from resight.errors import ImageTooLarge, UnsupportedImage, UsageError
from resight.images import Geometry, decode, decode_for, fit, shown_as, verify, visible

Pixels = NDArray[np.uint8]


def noise(height: int, width: int, channels: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image, fmt: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def pages(planes: list[Image.Image]) -> bytes:
    return encoded(planes[0], "TIFF", save_all=True, append_images=planes[1:])


@pytest.mark.parametrize(("fmt", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_rgba_keeps_its_alpha_and_the_colour_under_it(fmt: str, options: dict[str, object]) -> None:
    pixels = noise(5, 7, 4)
    pixels[0, :, 3] = 0
    assert np.array_equal(decode(encoded(Image.fromarray(pixels), fmt, **options), channels=4), pixels)


def test_rgba_against_an_independent_reader() -> None:
    data = encoded(Image.fromarray(noise(6, 9, 4)), "PNG")
    assert np.array_equal(decode(data, channels=4), read_png(data).samples)


def test_grey_and_alpha() -> None:
    pixels = noise(4, 6, 2)
    data = encoded(Image.fromarray(pixels), "PNG")
    assert np.array_equal(decode(data, channels=2), pixels)
    assert np.array_equal(decode(data, channels=4), pixels[:, :, [0, 0, 0, 1]])


def test_two_of_rgba_are_its_luma_and_alpha() -> None:
    pixels = noise(4, 6, 4)
    luma = np.asarray(Image.fromarray(pixels[:, :, :3]).convert("L"))
    found = decode(encoded(Image.fromarray(pixels), "PNG"), channels=2)
    assert np.array_equal(found, np.dstack([luma, pixels[:, :, 3]]))


def test_a_palette_with_transparency_and_a_transparent_colour() -> None:
    index = np.array([[0, 1], [2, 1]], np.uint8)
    image = Image.frombytes("P", (2, 2), index.tobytes())
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    table = np.array([[10, 20, 30, 255], [40, 50, 60, 0], [70, 80, 90, 128]])
    data = encoded(image, "PNG", transparency=bytes([255, 0, 128]))
    assert np.array_equal(decode(data, channels=4), table[index])

    colour = noise(3, 3, 3)
    keyed = encoded(Image.fromarray(colour), "PNG", transparency=tuple(int(v) for v in colour[1, 1]))
    alpha = np.where((colour == colour[1, 1]).all(2), 0, 255)
    assert np.array_equal(decode(keyed, channels=4), np.dstack([colour, alpha]))

    grey = noise(3, 3, 1)[:, :, 0]
    keyed = encoded(Image.fromarray(grey), "PNG", transparency=int(grey[0, 2]))
    assert np.array_equal(decode(keyed, channels=2), np.dstack([grey, np.where(grey == grey[0, 2], 0, 255)]))

    bits = np.array([[0, 255, 255], [255, 0, 0]], np.uint8)
    for key, hidden in ((0, 0), (1, 255)):
        keyed = encoded(Image.fromarray(bits).convert("1"), "PNG", transparency=key)
        alpha = np.where(bits == hidden, 0, 255)
        assert np.array_equal(decode(keyed, channels=2), np.dstack([bits, alpha]))
        assert np.array_equal(decode(keyed, channels=4), np.dstack([bits] * 3 + [alpha]))
        assert np.array_equal(decode(keyed, channels=1)[:, :, 0], np.where(bits == hidden, 255, bits))


def test_inks_of_a_cmyk_tiff_are_four_channels_and_those_of_a_jpeg_are_not() -> None:
    pixels = noise(4, 4, 4)
    image = Image.frombytes("CMYK", (4, 4), pixels.tobytes())
    assert np.array_equal(decode(encoded(image, "TIFF"), channels=4), pixels)
    with pytest.raises(UnsupportedImage, match=r"4 inks \(CMYK\); expected 4"):
        decode(encoded(image, "JPEG"), channels=4)


@pytest.mark.parametrize("count", [2, 4, 5, 16])
def test_grey_pages_of_a_tiff_are_channels(count: int) -> None:
    pixels = noise(5, 8, count)
    data = pages([Image.fromarray(pixels[:, :, k]) for k in range(count)])
    assert np.array_equal(decode(data, channels=count), pixels)
    assert np.array_equal(decode(data, channels=1), pixels[:, :, :1])  # the first page, as ever
    assert decode(data, channels=3).shape == (5, 8, 3)
    for wrong, found in ((count + 1, f"{count} pages"), (count - 1, f"more than {count - 1} pages")):
        if wrong not in (1, 3, 17):
            with pytest.raises(UnsupportedImage, match=f"{found}; expected {wrong}"):
                decode(data, channels=wrong)


def test_16_bit_pages_are_scaled_each() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (4, 5, 5), dtype=np.uint16)
    data = pages([Image.fromarray(values[:, :, k]) for k in range(5)])
    assert np.array_equal(decode(data, channels=5), (values.astype(np.int64) * 2 + 257) // 514)


def test_pages_of_other_kinds_and_sizes_are_refused() -> None:
    grey, colour = Image.fromarray(noise(4, 4, 1)[:, :, 0]), Image.fromarray(noise(4, 4, 3))
    with pytest.raises(UnsupportedImage, match=r"not all grey \(page 2 is RGB\)"):
        decode(pages([grey, colour, grey, grey, grey]), channels=5)
    with pytest.raises(UnsupportedImage, match="differ in size: 4 × 4 and, page 3, 5 × 4"):
        decode(pages([grey, grey, grey.resize((5, 4)), grey, grey]), channels=5)


def test_pages_count_together_before_their_pixels_are_taken() -> None:
    data = pages([Image.fromarray(noise(10, 10, 1)[:, :, 0])] * 5)
    with pytest.raises(ImageTooLarge, match="5 channels"):
        decode(data, channels=5, max_pixels=100)
    assert decode(data, channels=5, max_pixels=125).shape == (10, 10, 5)


def test_animations_stay_their_first_frame() -> None:
    frames = [Image.fromarray(noise(4, 4, 1, seed)[:, :, 0]) for seed in range(5)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImage, match=r"3 channels|1 channel"):
        decode(data, channels=5)


@pytest.mark.parametrize(
    ("stored", "asked", "said"),
    [
        (1, 2, r"1 channel \(grey\); expected 2"),
        (1, 4, r"1 channel \(grey\); expected 4"),
        (3, 4, r"3 channels \(RGB\); expected 4"),
        (3, 5, r"3 channels \(RGB\); expected 5"),
        (4, 5, r"4 channels \(RGB and alpha\); expected 5"),
        (2, 5, r"2 channels \(grey and alpha\); expected 5"),
    ],
)
def test_both_numbers_are_named_and_no_channel_is_invented(tmp_path: Path, stored: int, asked: int, said: str) -> None:
    pixels = noise(4, 4, stored)
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(pixels[:, :, 0] if stored == 1 else pixels), "PNG"))
    for use in (lambda: decode(path, channels=asked), lambda: verify(path, channels=asked)):
        with pytest.raises(UnsupportedImage, match=said) as caught:
            use()
        assert caught.value.source == str(path)


def unspecified_samples(pixels: Pixels) -> bytes:
    """An uncompressed TIFF 6.0 of RGB and samples of no stated kind (ExtraSamples 0), as GDAL writes many bands."""
    height, width, samples = pixels.shape
    bits, extra, start = 200, 240, 280
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, samples, bits), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, start), (277, 3, 1, samples), (278, 3, 1, height), (279, 4, 1, pixels.size), (284, 3, 1, 1),
        (338, 3, samples - 3, 0 if samples < 6 else extra),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\x00" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return (
        head.ljust(bits, b"\0") + struct.pack("<H", 8) * samples + bytes(start - bits - 2 * samples) + pixels.tobytes()
    )


@pytest.mark.parametrize("samples", [4, 5])
def test_samples_that_pillow_does_not_read_are_counted_in_the_error(samples: int) -> None:
    pixels = noise(3, 4, samples)
    data = unspecified_samples(pixels)
    assert np.array_equal(decode(data), pixels[:, :, :3])
    with pytest.raises(UnsupportedImage, match=f"{samples} samples a pixel, of which Pillow reads 3.*{samples}"):
        decode(data, channels=samples)


def test_fit_and_its_errors() -> None:
    grey, colour = noise(2, 2, 1), noise(2, 2, 3)
    assert fit(colour, None) is colour
    assert fit(colour, 3) is colour
    assert np.array_equal(fit(grey, 3), grey.repeat(3, axis=2))
    assert np.array_equal(fit(colour, 1)[:, :, 0], np.asarray(Image.fromarray(colour).convert("L")))
    with pytest.raises(UnsupportedImage, match="x: it has 5 channels; expected 3"):
        fit(noise(2, 2, 5), 3, "x")
    for wrong in (0, 17, True, 2.0):
        with pytest.raises(UsageError, match="channels"):
            decode(b"", channels=wrong)  # type: ignore[arg-type]


def test_what_people_are_shown() -> None:
    for channels in (1, 3):
        pixels = noise(3, 3, channels)
        assert visible(pixels) is pixels
        assert shown_as(channels) == ""
    four = noise(3, 3, 4)
    assert np.array_equal(visible(four), four[:, :, :3])
    for channels in (2, 5, 16):
        pixels = noise(3, 3, channels)
        exact = np.floor(pixels.astype(float).mean(axis=2, keepdims=True) + 0.5)
        assert np.array_equal(visible(pixels), exact)
        assert str(channels) in shown_as(channels)


def test_geometry_resizes_each_channel_by_itself() -> None:
    """Colour under full transparency counts: nothing is multiplied by alpha."""
    pixels = noise(40, 30, 5)
    square = Geometry("crop", 16, 20).apply(pixels)
    assert square.shape == (16, 16, 5)
    for k in range(5):
        assert np.array_equal(square[:, :, k], Geometry("crop", 16, 20).apply(pixels[:, :, [k]])[:, :, 0])
    rgba = encoded(Image.fromarray(noise(8, 8, 4)), "PNG")
    assert decode_for(Geometry("crop", 4, 4), rgba, channels=4).shape == (8, 8, 4)
