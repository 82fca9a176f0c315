"""The one evaluation transform, against torchvision and against properties."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resight.errors import RunError, UsageError
from resight.images import Geometry, resize, resize_short
from resight.images.geometry import PADDING

from .reference import noise

SHAPES = [(50, 60), (60, 50), (33, 97), (97, 33), (40, 40), (41, 300), (1, 16), (16, 1), (2, 31), (7, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("size", "short"), [(32, 40), (32, 32), (31, 32), (32, 37), (1, 1)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_equals_torchvision(shape: tuple[int, int], size: int, short: int, interpolation: Any) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    reference = v2.Compose([v2.Resize(short, interpolation=v2.InterpolationMode(interpolation)), v2.CenterCrop(size)])
    for channels in (3, 1):
        picture = noise(*shape, channels)
        image = Image.fromarray(picture if channels == 3 else picture[:, :, 0])
        expected = np.asarray(reference(image)).reshape(size, size, channels)
        found = Geometry("crop", size, short, interpolation).apply(picture)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 4999), (1, 1), (2, 2), (4999, 3)])
def test_extreme_shapes(kind: Any, shape: tuple[int, int]) -> None:
    out = Geometry(kind, 64, 72).apply(noise(*shape))
    assert out.shape == (64, 64, 3)
    assert out.dtype == np.uint8


def test_extreme_crop_shows_the_middle() -> None:
    picture = np.zeros((1, 5000, 3), np.uint8)
    picture[0, 2500:] = 255
    out = Geometry("crop", 64, 64).apply(picture)
    np.testing.assert_array_equal(out, 255 - out[:, ::-1])  # black meets white right in the middle
    assert (np.diff(out[0, :, 0].astype(int)) >= 0).all()
    assert out[0, 0, 0] < 16


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 255),
    st.sampled_from(["crop", "squash", "letterbox"]),
)
@settings(max_examples=60, deadline=None)
def test_a_flat_picture_stays_flat(height: int, width: int, level: int, kind: Any) -> None:
    out = Geometry(kind, 16, 20).apply(np.full((height, width, 3), level, np.uint8))
    allowed = {level, PADDING} if kind == "letterbox" else {level}
    assert set(np.unique(out).tolist()) <= allowed
    assert out[7, 7, 0] == level


@pytest.mark.parametrize("kind", ["crop", "squash", "letterbox"])
def test_mirrored_in_mirrored_out(kind: Any) -> None:
    picture = noise(30, 46)  # even margins
    geometry = Geometry(kind, 16, 20)
    np.testing.assert_array_equal(geometry.apply(picture[:, ::-1])[:, ::-1], geometry.apply(picture))


@pytest.mark.parametrize("kind", ["crop", "squash", "letterbox"])
def test_the_right_size_is_left_alone(kind: Any) -> None:
    picture = noise(24, 24)
    np.testing.assert_array_equal(Geometry(kind, 24, 24).apply(picture), picture)


def test_letterbox_pads_with_grey() -> None:
    out = Geometry("letterbox", 20).apply(np.zeros((10, 40, 3), np.uint8))
    rows = np.unique(out, axis=1)[:, 0, 0].tolist()
    assert rows == [114] * 7 + [0] * 5 + [114] * 8


def test_letterbox_and_squash_are_pillows_resize() -> None:
    picture = noise(30, 60)
    small = np.asarray(Image.fromarray(picture).resize((20, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(Geometry("letterbox", 20).apply(picture)[5:15], small)
    square = np.asarray(Image.fromarray(picture).resize((20, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(Geometry("squash", 20, interpolation="bicubic").apply(picture), square)


def test_channels_do_not_mix() -> None:
    picture = noise(30, 40, 5)
    found = Geometry("crop", 16, 20).apply(picture)
    for channel in range(5):
        alone = Geometry("crop", 16, 20).apply(picture[:, :, channel : channel + 1])
        np.testing.assert_array_equal(found[:, :, channel], alone[:, :, 0])
    np.testing.assert_array_equal(Geometry("crop", 16, 20).apply(picture[:, :, :3]), found[:, :, :3])


def test_a_cache_of_short_sides_changes_nothing() -> None:
    picture = noise(100, 77)
    geometry = Geometry("crop", 32, 40)
    np.testing.assert_array_equal(geometry.apply(resize_short(picture, 40)), geometry.apply(picture))


def test_resize_short_rounds_the_long_side_down() -> None:
    assert resize_short(noise(7, 5), 32).shape == (44, 32, 3)  # 44.8
    assert resize_short(noise(5, 7), 32).shape == (32, 44, 3)
    assert resize_short(noise(1, 5000), 32).shape == (32, 512, 3)
    assert resize(noise(5, 7), 3, 4).shape == (3, 4, 3)


@pytest.mark.parametrize("kind", ["crop", "squash", "letterbox"])
def test_dict_round_trip(kind: Any) -> None:
    geometry = Geometry(kind, 96, 100, "bicubic")
    for known in (geometry, replace(geometry, version=1)):
        assert Geometry.from_dict(json.loads(json.dumps(known.to_dict()))) == known


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 3}, "version 3"),
        ({"version": None}, "version None"),
        ({"padding": 0}, "padding"),
        ({"size": "224"}, "size is '224'"),
        ({"kind": "mosaic"}, "mosaic"),
    ],
)
def test_dict_of_another_version(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RunError, match=words):
        Geometry.from_dict({**Geometry().to_dict(), **change})
    short = Geometry().to_dict()
    del short["resize"]
    with pytest.raises(RunError, match="expected"):
        Geometry.from_dict(short)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "stretch"},
        {"size": 0},
        {"size": 224.0},
        {"size": True},
        {"size": 300},
        {"resize": 9000},
        {"interpolation": "nearest"},
        {"version": 3},
    ],
)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Geometry(**arguments)


def test_only_crop_has_a_resize() -> None:
    assert Geometry("squash", 64) == Geometry("squash", 64, resize=99)
    assert Geometry("letterbox", 64).resize == 64


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_only_pixels(pixels: Any) -> None:
    with pytest.raises(UsageError, match="uint8"):
        Geometry().apply(pixels)
