"""Slow, independent readers of PNG and GIF, written from the specifications: what the decoder is compared
with.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


@dataclass
class Png:
    depth: int
    colour_type: int
    samples: NDArray[np.int64]  # (H, W, channels), in the file's own bit depth
    palette: NDArray[np.int64]
    transparency: bytes


def read_png(data: bytes) -> Png:
    """ISO/IEC 15948: the default image, all bit depths, interlaced or not."""
    chunks: dict[bytes, bytes] = {}
    position = 8
    while position < len(data):
        length, name = struct.unpack(">I4s", data[position : position + 8])
        chunks[name] = chunks.get(name, b"") + data[position + 8 : position + 8 + length]
        position += 12 + length
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    raw = zlib.decompress(chunks[b"IDAT"])
    samples = np.zeros((height, width, channels), np.int64)
    for top, left, down, right in ADAM7 if interlaced else ((0, 0, 1, 1),):
        rows, columns = len(range(top, height, down)), len(range(left, width, right))
        if rows and columns:
            part, raw = _unfilter(raw, rows, columns, channels, depth)
            samples[top::down, left::right] = part
    palette = np.frombuffer(chunks.get(b"PLTE", b""), np.uint8).reshape(-1, 3).astype(np.int64)
    return Png(depth, colour_type, samples, palette, chunks.get(b"tRNS", b""))


def _unfilter(raw: bytes, rows: int, columns: int, channels: int, depth: int) -> tuple[NDArray[np.int64], bytes]:
    stride, step = (columns * channels * depth + 7) // 8, max(1, channels * depth // 8)
    above, out = bytearray(stride), []
    for row in range(rows):
        start = row * (stride + 1)
        kind, line = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        for i in range(stride):
            a, b = line[i - step] if i >= step else 0, above[i]
            c = above[i - step] if i >= step else 0
            line[i] = (line[i] + (0, a, b, (a + b) // 2, _paeth(a, b, c))[kind]) & 255
        out.append(bytes(line))
        above = line
    rest = raw[rows * (stride + 1) :]
    table = np.frombuffer(b"".join(out), np.uint8).reshape(rows, stride)
    if depth == 16:
        values = table.view(">u2").astype(np.int64)
    else:
        bits = np.unpackbits(table, axis=1).reshape(rows, -1, depth)
        values = (bits * (1 << np.arange(depth)[::-1])).sum(axis=2)[:, : columns * channels].astype(np.int64)
    return values.reshape(rows, columns, channels), rest


def _paeth(a: int, b: int, c: int) -> int:
    distances = [(abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c)]
    return min(distances)[2]


def png_over_white(data: bytes) -> NDArray[np.int64]:
    """What a PNG shows on white paper, (H, W, 1 or 3), by real-number arithmetic rounded half up."""
    png = read_png(data)
    top = 2**png.depth - 1
    values = png.samples
    alpha = np.full(values.shape[:2], 255.0)
    if png.colour_type == 3:
        opacity = np.full(256, 255)
        opacity[: len(png.transparency)] = list(png.transparency)
        alpha, colour = opacity[values[:, :, 0]].astype(float), png.palette[values[:, :, 0]].astype(float)
    elif png.colour_type in (4, 6):
        levels = to_8_bits(values, png.depth, grey=False)
        alpha, colour = levels[:, :, -1].astype(float), levels[:, :, :-1].astype(float)
    else:
        colour = to_8_bits(values, png.depth, grey=png.colour_type == 0).astype(float)
        if png.transparency:
            key = np.frombuffer(png.transparency, ">u2").astype(np.int64)
            alpha[(values == key).all(axis=2)] = 0
    if top < 255 and png.colour_type == 0:
        colour = values * 255.0 / top
    weight = alpha[:, :, None]
    over: NDArray[np.int64] = np.floor((colour * weight + 255 * (255 - weight)) / 255 + 0.5).astype(np.int64)
    return over


def to_8_bits(values: NDArray[np.int64], depth: int, *, grey: bool) -> NDArray[np.int64]:
    """16-bit grey is value / 257 rounded; of 16-bit colour the high byte counts."""
    if depth != 16:
        return values
    scaled: NDArray[np.int64] = np.floor(values / 257 + 0.5).astype(np.int64) if grey else values >> 8
    return scaled


def read_gif(data: bytes) -> NDArray[np.int64]:
    """GIF89a: RGB (H, W, 3) of the first frame, which must cover the screen, not be interlaced or
    transparent.
    """
    width, height, flags = struct.unpack("<HHB", data[6:11])
    palette = np.frombuffer(data[13 : 13 + (3 << (flags & 7) + 1)], np.uint8).reshape(-1, 3)
    position = 13 + palette.size
    while data[position] == 0x21:  # an extension: skip its blocks
        position += 2
        while data[position]:
            position += 1 + data[position]
        position += 1
    if data[position] != 0x2C:
        raise ValueError("no frame")
    left, top, w, h, local = struct.unpack("<HHHHB", data[position + 1 : position + 10])
    if (left, top, w, h) != (0, 0, width, height) or local & 0x40:
        raise ValueError("not a plain first frame")
    position += 10
    if local & 0x80:
        size = 3 << (local & 7) + 1
        palette = np.frombuffer(data[position : position + size], np.uint8).reshape(-1, 3)
        position += size
    bits, packed = data[position], b""
    position += 1
    while data[position]:
        packed += data[position + 1 : position + 1 + data[position]]
        position += 1 + data[position]
    indices = np.frombuffer(_lzw(packed, bits)[: width * height], np.uint8)
    return palette[indices].reshape(height, width, 3).astype(np.int64)


def _lzw(packed: bytes, bits: int) -> bytes:
    stream, filled, position = 0, 0, 0
    clear, end = 1 << bits, (1 << bits) + 1
    table: list[bytes] = []
    size, previous, out = bits + 1, b"", bytearray()
    while True:
        while filled < size:
            stream |= packed[position] << filled
            filled, position = filled + 8, position + 1
        code, stream, filled = stream & ((1 << size) - 1), stream >> size, filled - size
        if code == clear:
            table = [bytes([i]) for i in range(clear)] + [b"", b""]
            size, previous = bits + 1, b""
            continue
        if code == end:
            return bytes(out)
        entry = table[code] if code < len(table) else previous + previous[:1]
        out += entry
        if previous and len(table) < 4096:
            table.append(previous + entry[:1])
        if len(table) == 1 << size and size < 12:
            size += 1
        previous = entry


def luma(rgb: NDArray[Any]) -> NDArray[np.int64]:
    """ITU-R 601-2, in 16-bit fixed point, (H, W, 1)."""
    r, g, b = (rgb[:, :, i].astype(np.int64) for i in range(3))
    return ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16)[:, :, None]


def encode(picture: NDArray[Any] | Image.Image, fmt: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, fmt, **options)
    return stream.getvalue()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
