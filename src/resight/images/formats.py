"""Which formats are read, and how to tell them, and what is not one of them, by content."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import PurePath

from resight.errors import ImageError, UndecodableImage, UnsupportedImage, UsageError

FORMATS: tuple[str, ...] = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "NPY")
"""All formats that are read. PPM stands for its family: PBM, PGM, PPM. NPY is a NumPy array: pictures of any number of
channels."""

EXTENSIONS: dict[str, str] = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pbm": "PPM",
    ".pnm": "PPM",
    ".npy": "NPY",
}
"""File name extension, in lower case with its dot, to format."""

UNSUPPORTED_EXTENSIONS = frozenset(
    (
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".jp2",
        ".j2k",
        ".svg",
        ".psd",
        ".raw",
        ".cr2",
        ".nef",
        ".arw",
        ".dng",
        ".ico",
        ".tga",
        ".exr",
        ".hdr",
        ".pdf",
        ".eps",
    )
)
"""Pictures by name that Resight does not read; they are mentioned, never silently passed over."""

HEADER_BYTES = 1024
"""How much of a file the functions here need to see."""

_CONVERT = "convert it to JPEG or PNG first"
_FTYP_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF", "a PDF document", "export its page as a PNG"),
    (b"PK\x03\x04", "a ZIP archive (or an Office document)", "unpack it first"),
    (b"\x1f\x8b", "gzip-compressed data", "unpack it first"),
    (b"8BPS", "a Photoshop document", _CONVERT),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture", _CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _CONVERT),
    (b"\xff\x0a", "a JPEG XL picture", _CONVERT),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", _CONVERT),
    (b"\x00\x00\x01\x00", "a Windows icon", _CONVERT),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video", "extract a frame first"),
    (b"OggS", "an Ogg audio or video file", "extract a frame first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the picture itself", "run: git lfs pull"),
)


def sniff(header: bytes) -> str | None:
    """Return the format whose magic bytes ``header`` (the first ``HEADER_BYTES`` of a file) has, or None."""
    if header.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if header.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if header.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if header.startswith(b"BM"):
        return "BMP"
    if header.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "TIFF"
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WEBP"
    if header.startswith(b"\x93NUMPY"):
        return "NPY"
    if len(header) > 2 and header[:1] == b"P" and header[1:2] in b"123456f" and header[2:3] in b" \t\r\n\x0b\x0c#":
        return "PPM"
    return None


def peek_size(header: bytes, fmt: str) -> tuple[int, int] | None:
    """Return (width, height) where it stands at a fixed place: PNG, GIF and WebP. None elsewhere, or when
    cut short.

    These are the formats whose Pillow reader may take memory for pixels before it can be asked for the size.
    """
    if fmt == "PNG" and len(header) >= 24 and header[12:16] == b"IHDR":
        width, height = struct.unpack(">II", header[16:24])
        return width, height
    if fmt == "GIF" and len(header) >= 10:
        width, height = struct.unpack("<HH", header[6:10])
        return width, height
    if fmt == "WEBP" and len(header) >= 30:
        return _peek_webp(header)
    return None


def _peek_webp(header: bytes) -> tuple[int, int] | None:
    chunk = header[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(header[24:27], "little"), 1 + int.from_bytes(header[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(header[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", header[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def extension_matches(name: str, fmt: str) -> bool:
    """False when ``name`` carries the extension of another format; an unknown or missing one cannot be
    wrong.
    """
    expected = EXTENSIONS.get(PurePath(name).suffix.lower())
    return expected is None or expected == fmt


def identify(header: bytes, formats: Sequence[str], source: str | None) -> str:
    """Return which of ``formats`` the content is.

    Raises ``UndecodableImage`` for nothing at all, ``UnsupportedImage`` for anything else, saying what it
    looks like, and ``UsageError`` for a name in ``formats`` that is not in ``FORMATS``.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UsageError(f"formats has {unknown}, which are not among {list(FORMATS)}")
    if not header:
        raise UndecodableImage("the file is empty (0 bytes)", source=source, hint="copy or download it again")
    fmt = sniff(header)
    if fmt is not None and fmt in formats:
        return fmt
    if fmt is not None:
        raise UnsupportedImage(
            f"this is a {fmt} picture, which is not accepted here",
            source=source,
            hint=f"use one of {', '.join(formats)}",
        )
    raise _refusal(header, formats, source)


def _refusal(header: bytes, formats: Sequence[str], source: str | None) -> ImageError:
    what, hint = describe(header)
    return UnsupportedImage(
        f"this is not a picture that Resight reads: it looks like {what}; expected {', '.join(formats)}",
        source=source,
        hint=hint,
    )


def describe(header: bytes) -> tuple[str, str]:
    """Say in plain words what a file of no known format looks like, and what to do about it."""
    for magic, what, hint in _OTHERS:
        if header.startswith(magic):
            return what, hint
    if header[4:8] == b"ftyp":
        return _describe_ftyp(header)
    if header[:4] == b"RIFF":
        return "a RIFF file (audio or video)", "extract a frame first"
    if not header.strip(b"\x00"):
        return "only zero bytes", "copy or download it again"
    text = header.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "an SVG drawing", "render it to PNG first"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page", "a download may have been answered with an error page: download it again"
    if text.startswith((b"{", b"[")) and _is_text(header):
        return "JSON", "give the picture itself"
    if _is_text(header):
        return "text", "give the picture itself"
    return "unknown binary data", "copy or download it again, or convert it to JPEG or PNG"


def _describe_ftyp(header: bytes) -> tuple[str, str]:
    brand = header[8:12]
    if brand in (b"avif", b"avis"):
        return "an AVIF picture", _CONVERT
    if brand in _FTYP_HEIF:
        return "a HEIC/HEIF picture", f"{_CONVERT} (on an iPhone: Settings, Camera, Formats, Most Compatible)"
    return "an MP4 or QuickTime video", "extract a frame first"


def _is_text(header: bytes) -> bool:
    if b"\x00" in header:
        return False
    body = header[:-4] if len(header) == HEADER_BYTES else header  # a character may be cut at the end
    try:
        decoded = body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\r\n\x0c\ufeff" for char in decoded)
