"""JPEGs that are decoded at a part of their size: by which rule, and that nothing else changes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resight.errors import ImageError, ImageTooLarge, UndecodableImage
from resight.images import Geometry, decode, decode_for, decode_with_info, read_bytes, verify
from resight.images.geometry import MARGIN


def jpeg(height: int, width: int, mode: str = "RGB", **options: Any) -> bytes:
    """Smooth waves, as a photo has them, encoded with full chroma."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = [
        127 + 120 * np.sin(x / (9 + 4 * k) + y / (21 - 3 * k)) for k in range({"L": 1, "RGB": 3, "CMYK": 4}[mode])
    ]
    pixels = np.stack(planes, axis=2).astype(np.uint8)
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels, mode if mode == "CMYK" else None)
    picture.save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "size", "resize", "width", "height", "expected"),
    [
        ("crop", 224, 224, 500, 375, 1),
        ("crop", 224, 224, 1000, 671, 1),  # 335.5 would be left; 336 are needed
        ("crop", 224, 224, 1000, 672, 2),
        ("crop", 224, 224, 2000, 1500, 4),
        ("crop", 224, 256, 2000, 1500, 2),
        ("crop", 224, 224, 4032, 3024, 8),
        ("crop", 64, 64, 12000, 95, 1),
        ("squash", 100, 0, 1200, 300, 2),
        ("letterbox", 100, 0, 1200, 300, 8),
        ("crop", 1, 1, 3, 3, 2),
        ("crop", 1, 1, 1, 1, 1),
    ],
)
def test_what_is_left_is_never_less_than_the_margin(
    kind: Any, size: int, resize: int, width: int, height: int, expected: int
) -> None:
    geometry = Geometry(kind, size, resize or size)
    assert geometry.reduction(width, height) == expected
    assert geometry.reduction(height, width) == expected
    side = max(width, height) if kind == "letterbox" else min(width, height)
    assert expected == 1 or side / expected >= MARGIN * geometry.resize
    assert Geometry(kind, size, resize or size, version=1).reduction(width, height) == 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_scaled_picture_is_libjpegs(mode: str, channels: int, factor: int) -> None:
    data = jpeg(241, 320, mode)
    side = int(240 / factor / MARGIN)
    found = decode_for(Geometry("crop", side, side), data, channels=channels)
    assert found.shape == (-(-241 // factor), 320 // factor, channels)
    if mode == "RGB" and channels == 3:
        with Image.open(io.BytesIO(data)) as picture:
            picture.draft(None, (320 // factor, 240 // factor))
            np.testing.assert_array_equal(found, np.asarray(picture))
    average = decode(data, channels=channels)[:240].reshape(240 // factor, factor, -1, factor, channels).mean((1, 3))
    assert np.abs(found[: 240 // factor] - average).mean() < 2


@pytest.mark.parametrize("kind", ["crop", "squash", "letterbox"])
def test_squares_hardly_change(kind: Any) -> None:
    data = jpeg(480, 640)
    full, scaled = (Geometry(kind, 64, 72, version=v) for v in (1, 2))
    assert scaled.reduction(640, 480) == 4
    found = scaled.apply(decode_for(scaled, data))
    expected = full.apply(decode_for(full, data))
    np.testing.assert_array_equal(expected, full.apply(decode(data)))
    assert np.abs(found.astype(int) - expected).mean() < 2
    assert found.tobytes() != expected.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_scaled_pictures(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    geometry = Geometry("crop", 32, 32)
    data, plain = jpeg(200, 300, exif=exif), jpeg(200, 300)
    assert geometry.reduction(300, 200) == 4
    found = decode_for(geometry, data)
    assert found.shape == ((75, 50, 3) if orientation >= 5 else (50, 75, 3))
    turned = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation]
    expected = decode_for(geometry, plain)
    if orientation in (2, 4, 5, 7):
        expected = expected[:, ::-1] if orientation in (2, 4) else expected[::-1] if orientation == 5 else expected
    if orientation in (1, 2, 3, 6, 8):
        np.testing.assert_array_equal(found, np.rot90(expected, turned))
    assert verify(data).width == decode_with_info(data)[1].width == (200 if orientation >= 5 else 300)


@pytest.mark.parametrize("keep", [0.3, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_file_is_refused_when_scaled(keep: float, progressive: bool) -> None:
    data = jpeg(400, 600, progressive=progressive)
    cut = data[: int(len(data) * keep)]
    for read in (decode, verify, lambda data: decode_for(Geometry("crop", 20, 20), data)):
        with pytest.raises(UndecodableImage, match="cut off"):
            read(cut)


def test_limits_count_the_full_size() -> None:
    data = jpeg(400, 600)
    for read in (verify, lambda data, **k: decode_for(Geometry("crop", 20, 20), data, **k)):
        with pytest.raises(ImageTooLarge, match="600 × 400"):
            read(data, max_pixels=100_000)


def test_other_formats_are_decoded_in_full(tmp_path: Path) -> None:
    pixels = decode(jpeg(200, 300))
    for name in ("a.png", "a.bmp", "a.tiff", "a.ppm"):
        Image.fromarray(pixels).save(tmp_path / name)
        np.testing.assert_array_equal(decode_for(Geometry("crop", 8, 8), tmp_path / name), pixels)


def test_verifying_says_what_decoding_says(odd_images: Path) -> None:
    def outcome(read: Any, path: Path) -> Any:
        try:
            return read(path)
        except ImageError as error:
            return type(error), error.reason

    for path in sorted(path for path in odd_images.rglob("*.*") if path.is_file()):
        assert outcome(verify, path) == outcome(lambda p: decode_with_info(p)[1], path), path


def test_bytes_of_a_path_fail_as_decoding_does(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a.jpg") == b"abc"
    for path in (tmp_path, tmp_path / "missing.jpg"):
        with pytest.raises(ImageError) as expected:
            decode(path, source="x")
        with pytest.raises(ImageError) as found:
            read_bytes(path, source="x")
        assert str(found.value) == str(expected.value)
