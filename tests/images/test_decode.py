"""What is refused, and in which words; limits; paths; threads."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resight.errors import ImageError, ImageTooLarge, UndecodableImage, UnsupportedImage, UsageError
from resight.images import FORMATS, MAX_PIXELS, decode, decode_with_info, probe

from .reference import encode, noise

PEAK = """
def peak_kib():
    # Linux hands ru_maxrss on from parent to child, through exec: only VmHWM is this process's own.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except FileNotFoundError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""

ENCODINGS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")

BROKEN: dict[str, tuple[type[ImageError], str]] = {
    "badwidth.bmp": (ImageTooLarge, r"4294967169 × 64 pixels .* limit of 64\.0"),
    "broken.png": (UndecodableImage, "the PNG file is damaged"),
    "broken_data_stream.png": (UndecodableImage, "the PNG file is damaged"),
    "decompression_bomb.gif": (ImageTooLarge, r"4,364\.7 megapixels, more than the limit of 64\.0"),
    "png_decompression_dos.png": (UndecodableImage, "text that unpacks to more than is allowed"),
    "shortfile.bmp": (UndecodableImage, "the BMP file is cut off"),
    "truncated_image.png": (UndecodableImage, "the PNG file is cut off"),
    "truncated_jpeg.jpg": (UndecodableImage, "the JPEG file is cut off"),
    "zero_width.gif": (UndecodableImage, "header says 0 × 32 pixels"),
}


def test_no_broken_file_is_forgotten(odd_images: Path) -> None:
    there = {path.name for path in (odd_images / "broken").iterdir()}
    assert there == {*BROKEN, "broken_exif_dpi.jpg"}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file(odd_images: Path, name: str) -> None:
    kind, words = BROKEN[name]
    with pytest.raises(ImageError, match=words) as caught:
        decode(odd_images / "broken" / name, source=name)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{name}: ")
    assert caught.value.hint


def test_broken_exif_does_not_matter(odd_images: Path) -> None:
    path = odd_images / "broken" / "broken_exif_dpi.jpg"
    with Image.open(path) as image:
        np.testing.assert_array_equal(decode(path), np.asarray(image))


def test_all_odd_files_need_little_memory(odd_images: Path) -> None:
    program = """
import sys
from pathlib import Path
from resight.errors import ImageError
from resight.images import decode
seen = 0
for path in sorted(Path(sys.argv[1]).rglob("*.*")):
    seen += 1
    try:
        decode(path)
    except ImageError:
        pass
print(seen, peak_kib() // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", PEAK + program, str(odd_images)], capture_output=True, text=True, check=True
    )
    seen, megabytes = map(int, done.stdout.split())
    assert seen >= 42
    assert megabytes < 500


STRANGERS = {
    b"%PDF-1.7 ...": "a PDF",
    b"PK\x03\x04....": "a ZIP",
    b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00": "HEIC",
    b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00": "HEIC",
    b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00": "AVIF",
    b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00": "MP4",
    b"<!DOCTYPE html><html></html>": "HTML",
    b"\xef\xbb\xbf\n<HTML lang=en>": "HTML",
    b'<svg xmlns="http://www.w3.org/2000/svg"/>': "SVG",
    b'<?xml version="1.0"?>\n<svg/>': "SVG",
    b'{"error": "not found"}': "JSON",
    b"just words": "text",
    "ein schöner Text".encode(): "text",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00": "Git LFS pointer",
    b"\x00" * 100: "only zero bytes",
    b"\x93\xfa\x01\x02\x00": "unknown binary",
    b"Peter": "text",
}


@pytest.mark.parametrize("data", STRANGERS, ids=list(STRANGERS.values()))
def test_what_it_looks_like_is_said(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match=STRANGERS[data]) as caught:
        decode(data, source="upload")
    assert caught.value.hint
    assert caught.value.source == "upload"


def test_empty() -> None:
    with pytest.raises(UndecodableImage, match=r"empty \(0 bytes\)"):
        decode(b"")


@pytest.mark.parametrize("fmt", ENCODINGS)
def test_content_decides(tmp_path: Path, fmt: str) -> None:
    picture = noise(12, 10)
    path = tmp_path / ("a.png" if fmt != "PNG" else "a.jpg")
    path.write_bytes(encode(picture, fmt))
    pixels, info = decode_with_info(path)
    assert pixels.shape == (12, 10, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert (info.format, info.width, info.height, info.orientation) == (fmt, 10, 12, 1)
    assert not info.extension_matches
    assert probe(path) == info
    if fmt in ("PNG", "BMP", "TIFF", "PPM"):
        np.testing.assert_array_equal(pixels, picture)


@pytest.mark.parametrize("fmt", ENCODINGS)
def test_only_the_formats_that_are_asked_for(fmt: str) -> None:
    others = [name for name in FORMATS if name != fmt]
    with pytest.raises(UnsupportedImage, match=f"{fmt} picture, which is not accepted here"):
        decode(encode(noise(4, 4), fmt), formats=others)
    assert decode(encode(noise(4, 4), fmt), formats=[fmt]).shape == (4, 4, 3)


def test_names_of_right_and_unknown_extension() -> None:
    data = encode(noise(4, 4), "JPEG")
    matches = {name: probe(data, source=name).extension_matches for name in ("a.JPG", "a.jfif", "a", "a.b", "a.gif")}
    assert matches == {"a.JPG": True, "a.jfif": True, "a": True, "a.b": True, "a.gif": False}


@pytest.mark.parametrize("fmt", ENCODINGS)
def test_every_cut_is_noticed(fmt: str) -> None:
    data = encode(noise(40, 40), fmt)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError):
            decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("fmt", ENCODINGS)
def test_limit_on_pixels(fmt: str) -> None:
    data = encode(noise(20, 30), fmt)
    assert decode(data, max_pixels=600).shape == (20, 30, 3)
    for call in (decode, probe):
        with pytest.raises(ImageTooLarge, match=r"30 × 20 pixels") as caught:
            call(data, max_pixels=599)
        assert "max_pixels=600" in str(caught.value)


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + zlib.crc32(header).to_bytes(4, "big") + b"\0\0\0\0IDAT"


def test_the_limit_is_ours_not_pillows() -> None:
    before = Image.MAX_IMAGE_PIXELS
    data = encode(np.zeros((10_000, 9_500), np.uint8), "PNG")  # Pillow alone warns from 89.5 megapixels on
    with pytest.raises(ImageTooLarge, match=r"95\.0 megapixels"):
        decode(data)
    assert probe(data, max_pixels=95_000_000).width == 9_500
    assert probe(png_header(20_000, 20_000), max_pixels=400_000_000).height == 20_000  # and refuses this one
    assert before == Image.MAX_IMAGE_PIXELS
    assert before is not None
    assert before > MAX_PIXELS


def test_a_bomb_costs_no_memory() -> None:
    program = """
from resight.errors import ImageTooLarge
from resight.images import decode
from PIL import Image
import io
riff = lambda body: b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body
vp8x = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + b"\\xff\\x3f\\x00" * 2 + bytes(64)
gif = b"GIF89a" + b"\\xff\\xff\\xff\\xff" + bytes(3) + b"," + bytes(4) + b"\\xff\\xff\\xff\\xff" + bytes(20)
ppm = b"P6 60000 60000 255 "
before = peak_kib()
for data in (riff(vp8x), gif, ppm):
    try:
        decode(data)
    except ImageTooLarge:
        continue
    raise SystemExit("a bomb was let through")
print(peak_kib() - before)
"""
    done = subprocess.run([sys.executable, "-c", PEAK + program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50_000  # kB


@pytest.mark.parametrize("channels", [0, -1, 17, True, 3.0])
def test_channels_are_one_to_sixteen(channels: int) -> None:
    with pytest.raises(UsageError, match="channels"):
        decode(encode(noise(2, 2), "PNG"), channels=channels)


def test_unknown_format_name() -> None:
    with pytest.raises(UsageError, match="EPS"):
        decode(b"x", formats=["EPS"])


def test_text_is_not_data() -> None:
    with pytest.raises(UsageError, match="bytes or a pathlib"):
        decode("cat.jpg")  # type: ignore[arg-type]


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        decode(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="directory"):
        decode(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="not a regular file"):
        decode(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encode(noise(2, 2), "PNG"))
    path.chmod(stat.S_IWUSR)
    with pytest.raises(ImageError, match="no permission"):
        decode(path)


def test_hostile_names_are_shown_harmless(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        decode(tmp_path / "a\x1b[31m\n\u202egpj.exe")
    shown = str(caught.value)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert r"a\x1b[31m\n\u202egpj.exe: there is no such file" in shown


def test_phone_jpeg_with_a_second_picture(tmp_path: Path) -> None:
    first, second = (Image.fromarray(noise(16, 16, seed=seed)) for seed in (1, 2))
    path = tmp_path / "phone.jpg"
    first.save(path, "MPO", save_all=True, append_images=[second])
    with Image.open(path) as image:
        assert image.format == "MPO"  # what Pillow makes of it
        expected = np.asarray(image)
    pixels, info = decode_with_info(path)
    assert info.format == "JPEG"
    np.testing.assert_array_equal(pixels, expected)


def test_many_threads() -> None:
    pictures = [noise(50 + i, 60, seed=i) for i in range(8)]
    encoded = [encode(picture, fmt) for picture in pictures for fmt in ("PNG", "TIFF")]
    start = threading.Barrier(8)

    def work(seed: int) -> int:
        start.wait(timeout=30)
        order = np.random.default_rng(seed).permutation(len(encoded))
        return sum(np.array_equal(decode(encoded[i]), pictures[i // 2]) for i in order)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [len(encoded)] * 8


def test_damage_anywhere_is_an_image_error() -> None:
    """Bytes turned at random in every format: a picture, or an error of ours; nothing else."""
    generator, outcomes = np.random.default_rng(5), set()
    for fmt in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM"):
        data = np.frombuffer(encode(noise(16, 16), fmt), np.uint8)
        for _ in range(150):
            broken = data.copy()
            places = generator.integers(2, min(len(data), int(generator.choice([40, 10**6]))), 4)
            broken[places] = generator.integers(0, 256, 4)
            try:
                outcomes.add(decode(broken.tobytes()).shape[2])
            except ImageError:
                outcomes.add(0)
    assert outcomes == {0, 3}
