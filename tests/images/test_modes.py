"""Every way of storing pixels ends where its written rule says, to the pixel."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from resight.errors import UnsupportedImage
from resight.images import decode, probe
from resight.images.modes import over_white, scale_to_8_bits, to_pixels

from .reference import encode, luma, noise, png_over_white, read_gif, read_png

PNGS = [
    "exif.png",
    "i_trns.png",
    "mode_16bit.png",
    "mode_grayscale.png",
    "mode_grayscale_alpha.png",
    "mode_palette.png",
    "mode_palette_1bit_alpha.png",
    "mode_palette_alpha.png",
    "p_16.png",
    "pil123p.png",
    "pil123rgba.png",
    "rgb_trns.png",
    "transparent.png",
]
OTHERS = [
    "16bit.cropped.tif",
    "dispose_bgnd.gif",
    "hopper.gif",
    "hopper.webp",
    "hopper_float_dpi_2.tif",
    "hopper_gray.jpg",
    "itxt_chunks.png",
    "pal1.bmp",
    "pal8.bmp",
    "pil_sample_cmyk.jpg",
]


def same(found: NDArray[Any], expected: NDArray[Any]) -> None:
    expected = np.repeat(expected, 3, axis=2) if expected.shape[2] == 1 else expected
    np.testing.assert_array_equal(found, expected)


def both(path: Path, expected: NDArray[Any]) -> None:
    """RGB and grey of one file."""
    same(decode(path), expected)
    grey = expected if expected.shape[2] == 1 else luma(expected)
    np.testing.assert_array_equal(decode(path, channels=1), grey)


def test_no_odd_file_is_forgotten(odd_images: Path) -> None:
    assert sorted(path.name for path in (odd_images / "modes").iterdir()) == sorted(PNGS + OTHERS)


@pytest.mark.parametrize("name", PNGS)
def test_png_against_a_reader_of_our_own(odd_images: Path, name: str) -> None:
    path = odd_images / "modes" / name
    both(path, png_over_white(path.read_bytes()))


def test_png_with_text_chunks(odd_images: Path) -> None:
    path = odd_images / "modes" / "itxt_chunks.png"  # 4.8 megapixels: too many for the slow reader
    with Image.open(path) as image:
        same(decode(path), np.asarray(image))


@pytest.mark.parametrize("name", ["hopper.gif", "dispose_bgnd.gif"])
def test_gif_first_frame(odd_images: Path, name: str) -> None:
    path = odd_images / "modes" / name
    both(path, read_gif(path.read_bytes()))


def test_bmp_one_bit(odd_images: Path) -> None:
    path = odd_images / "modes" / "pal1.bmp"
    data = path.read_bytes()
    start = int.from_bytes(data[10:14], "little")
    rows = np.frombuffer(data[start : start + 64 * 16], np.uint8).reshape(64, 16)[::-1]
    both(path, 255 * np.unpackbits(rows, axis=1)[:, :127, None].astype(np.int64))


def test_bmp_palette(odd_images: Path) -> None:
    path = odd_images / "modes" / "pal8.bmp"
    data = path.read_bytes()
    start = int.from_bytes(data[10:14], "little")
    palette = np.frombuffer(data[54:start], np.uint8).reshape(-1, 4)[:, 2::-1]
    both(path, palette[np.frombuffer(data[start:], np.uint8).reshape(64, 128)[::-1, :127]])


def test_tiff_16_bit_grey_is_value_over_257(odd_images: Path) -> None:
    path = odd_images / "modes" / "16bit.cropped.tif"
    values = np.frombuffer(path.read_bytes()[110 : 110 + 64 * 64 * 2], "<u2").reshape(64, 64, 1)
    assert values.max() > 255  # or saturation could not be told from scaling
    both(path, np.floor(values / 257 + 0.5).astype(np.int64))


def test_tiff_rgb(odd_images: Path) -> None:
    path = odd_images / "modes" / "hopper_float_dpi_2.tif"
    data = path.read_bytes()
    both(path, np.frombuffer(data[192 : 192 + 128 * 128 * 3], np.uint8).reshape(128, 128, 3))


@pytest.mark.parametrize("name", ["hopper_gray.jpg", "hopper.webp"])
def test_lossy_files_keep_the_codecs_pixels(odd_images: Path, name: str) -> None:
    path = odd_images / "modes" / name
    with Image.open(path) as image:
        raw = np.asarray(image)
    both(path, raw[:, :, None] if raw.ndim == 2 else raw)


def test_cmyk_jpeg_is_the_right_way_up(odd_images: Path) -> None:
    path = odd_images / "modes" / "pil_sample_cmyk.jpg"
    with Image.open(path) as image:
        ink = np.asarray(image).astype(np.int64)
    paper = 255 - ink[:, :, 3:]
    expected = np.clip(paper - np.floor(ink[:, :, :3] * paper / 255 + 0.5), 0, 255).astype(np.int64)
    both(path, expected)
    red, green, blue = decode(path)[2, 2].tolist()  # its upper left corner is a red field
    assert red > 200
    assert max(green, blue) < 80


def all_16_bit() -> NDArray[np.uint16]:
    return np.arange(65536, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        ("PNG", {}),
        ("PPM", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"big_endian": True}),
    ],
)
def test_every_16_bit_grey_value(fmt: str, options: dict[str, Any]) -> None:
    values: NDArray[Any] = all_16_bit()
    if options.pop("big_endian", False):
        values = values.astype(">u2")
    found = decode(encode(values, fmt, **options), channels=1)[:, :, 0]
    nearest = np.abs(found.astype(np.float64) * 257 - all_16_bit())
    assert nearest.max() <= 128  # no 8-bit level is nearer
    assert (found[0, 0], found[-1, -1]) == (0, 255)


def test_16_bit_tiff_where_white_is_zero() -> None:
    upright = decode(encode(all_16_bit(), "TIFF"))
    np.testing.assert_array_equal(decode(encode(all_16_bit(), "TIFF", tiffinfo={262: 0})), 255 - upright)


def test_12_bit_tiff_counts_to_4095() -> None:
    values = [0, 1, 2047, 2048, 4094, 4095]
    packed = int("".join(f"{value:012b}" for value in values), 2).to_bytes(9, "big")
    data = tiff({256: 6, 257: 1, 258: 12, 259: 1, 262: 1, 277: 1, 278: 1}, packed)
    assert probe(data).mode == "I;16"
    assert decode(data, channels=1).ravel().tolist() == [round(value * 255 / 4095) for value in values]


def tiff(tags: dict[int, int], pixels: bytes) -> bytes:
    """A little-endian TIFF of one strip."""
    tags = {**tags, 273: 8, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = 8 + len(pixels)
    return b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_transparent_grey_of_few_bits(depth: int) -> None:
    levels = np.arange(2**depth, dtype=np.uint8)
    data = grey_png(levels, depth, transparent=1)
    assert read_png(data).samples.ravel().tolist() == levels.tolist()
    expected = [255 if level == 1 else level * 255 // (2**depth - 1) for level in levels.tolist()]
    assert decode(data, channels=1).ravel().tolist() == expected


def grey_png(levels: NDArray[np.uint8], depth: int, transparent: int) -> bytes:
    """One row of grey ``levels`` of ``depth`` bits."""
    bits = np.unpackbits(levels[:, None], axis=1)[:, 8 - depth :].ravel()
    return png_row(len(levels), depth, 0, np.packbits(bits).tobytes(), struct.pack(">H", transparent))


def png_row(width: int, depth: int, colour_type: int, row: bytes, transparency: bytes) -> bytes:
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)),
        (b"tRNS", transparency),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_transparent_colour_of_16_bits() -> None:
    colours = np.array([[0x1234, 0x5678, 0x9ABC], [0x1334, 0x5678, 0x9ABC]], ">u2")
    data = png_row(2, 16, 2, colours.tobytes(), colours[0].tobytes())
    assert decode(data).tolist() == [[[255, 255, 255], [0x13, 0x56, 0x9A]]]


def test_alpha_over_white_is_the_nearest_integer_for_every_pair() -> None:
    colour, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    found = over_white(np.ascontiguousarray(colour)[:, :, None], alpha)[:, :, 0]
    exact = (colour.astype(np.float64) * alpha + 255.0 * (255 - alpha.astype(np.float64))) / 255
    assert np.abs(found - exact).max() < 0.5
    assert (found[0] == 255).all()
    np.testing.assert_array_equal(found[255], np.arange(256))


def test_scaling_rounds_half_up() -> None:
    assert scale_to_8_bits(np.array([[0, 1, 2]]), 2).ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_alpha_modes(mode: str, fmt: str) -> None:
    picture = noise(9, 11, len(mode))
    weight = picture[:, :, -1:].astype(np.float64)
    expected = np.floor((picture[:, :, :-1] * weight + 255 * (255 - weight)) / 255 + 0.5).astype(np.int64)
    same(decode(encode(picture, fmt)), expected)


def test_hidden_colour_does_not_show() -> None:
    picture = noise(5, 5, 4)
    picture[:, :, 3] = 0
    assert (decode(encode(picture, "PNG")) == 255).all()


def test_large_pictures_go_through_in_bands() -> None:
    picture = noise(1100, 1000, 2)  # more than one band of a million pixels
    weight = picture[:, :, 1].astype(np.float64)
    expected = np.floor((picture[:, :, 0] * weight + 255 * (255 - weight)) / 255 + 0.5)
    np.testing.assert_array_equal(decode(encode(picture, "PNG"), channels=1)[:, :, 0], expected)


def test_lab_goes_through_cielab() -> None:
    lightness = np.array([0, 25, 50, 75, 100])
    stored = np.zeros((1, 5, 3), np.uint8)
    stored[0, :, 0] = np.round(lightness * 2.55)
    data = encode(Image.frombytes("LAB", (5, 1), stored.tobytes()), "TIFF")
    assert probe(data).mode == "LAB"
    # neutral: CIE 1976 L* → Y → the sRGB curve (IEC 61966-2-1)
    levels = stored[0, :, 0] / 2.55
    y = np.where(levels > 8, ((levels + 16) / 116) ** 3, levels / 903.3)
    srgb = np.where(y > 0.0031308, 1.055 * y ** (1 / 2.4) - 0.055, 12.92 * y)
    expected = np.repeat(np.round(255 * srgb)[None, :, None], 3, axis=2)
    assert np.abs(decode(data).astype(int) - expected).max() <= 1


def test_lab_of_saturated_colour() -> None:
    rgb = np.array([[[180, 60, 60], [60, 160, 70], [70, 80, 170]]], np.uint8)
    lab = ImageCms.profileToProfile(
        Image.fromarray(rgb), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert np.abs(decode(encode(lab, "TIFF")).astype(int) - rgb).max() <= 3  # Lab has steps of whole units


def test_cmyk_tiff_is_not_inverted() -> None:
    ink = np.zeros((1, 2, 4), np.uint8)
    ink[0, 1] = (0, 255, 255, 0)
    data = encode(Image.frombytes("CMYK", (2, 1), ink.tobytes()), "TIFF")
    assert decode(data).tolist() == [[[255, 255, 255], [255, 0, 0]]]


def test_ycbcr_tiff() -> None:
    data = encode(Image.frombytes("YCbCr", (3, 1), bytes([0, 128, 128, 255, 128, 128, 76, 85, 255])), "TIFF")
    found = decode(data)[0].astype(int)
    assert np.abs(found - [[0, 0, 0], [255, 255, 255], [254, 0, 0]]).max() <= 1


def test_one_bit_is_0_and_255() -> None:
    bits = noise(8, 8, 0) > 127
    for fmt in ("PNG", "TIFF", "BMP", "PPM"):
        np.testing.assert_array_equal(decode(encode(bits, fmt), channels=1)[:, :, 0], np.where(bits, 255, 0))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((2, 2), np.float32), "floating-point"),
        (np.ones((2, 2), np.int32), "32-bit integers"),
    ],
)
def test_no_range_no_picture(values: NDArray[Any], words: str) -> None:
    with pytest.raises(UnsupportedImage, match=words) as caught:
        decode(encode(values, "TIFF"), source="scan.tif")
    assert caught.value.hint
    assert "scan.tif" in str(caught.value)


def test_float_ppm_is_refused() -> None:
    with pytest.raises(UnsupportedImage, match="floating-point"):
        decode(b"Pf\n1 1\n-1.0\n" + bytes(4))


def test_animated_webp_and_png_show_the_first_frame() -> None:
    first, second = noise(6, 7), noise(6, 7, seed=1)
    for fmt, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        stream = io.BytesIO()
        Image.fromarray(first).save(stream, fmt, save_all=True, append_images=[Image.fromarray(second)], **options)
        np.testing.assert_array_equal(decode(stream.getvalue()), first)


def test_modes_that_no_format_gives_today() -> None:
    """Premultiplied alpha, padding and palettes with alpha, from pictures made in memory."""
    picture = noise(8, 9, 4)
    picture[:, :, 3] = np.where(picture[:, :, 3] > 127, 255, 0)  # premultiplying by these is exact
    expected = np.where(picture[:, :, 3:] == 255, picture[:, :, :3], 255)
    image = Image.fromarray(picture)
    np.testing.assert_array_equal(to_pixels(image.convert("RGBa")), expected)
    np.testing.assert_array_equal(to_pixels(image.convert("RGB").convert("RGBX")), picture[:, :, :3])
    grey = Image.fromarray(picture[:, :, 2:])
    np.testing.assert_array_equal(to_pixels(grey.convert("La"))[:, :, 0], expected[:, :, 2])
    half = Image.frombytes("La", (2, 1), bytes([100, 128, 250, 250]))
    assert to_pixels(half).ravel().tolist() == [100 + 127, 250 + 5]
    palette = Image.frombytes("PA", (2, 1), bytes([1, 255, 1, 51]))
    palette.putpalette([0, 0, 0, 200, 100, 50])
    assert to_pixels(palette).tolist() == [[[200, 100, 50], [244, 224, 214]]]


def test_a_mode_without_a_rule() -> None:
    with pytest.raises(UnsupportedImage, match="'HSV', for which there is no rule"):
        to_pixels(Image.new("HSV", (1, 1)))
