"""Registration: the same picture after a change agrees, another one does not, however plain its background."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from tests.doctor.pictures import grey, scene

from resight.doctor.alignment import agreement, coarse
from resight.doctor.duplicates import GREY_LEAST, SLOPES_LEAST


def same(one: Image.Image, other: Image.Image) -> bool:
    values, slopes = agreement(grey(one)[None], grey(other)[None])
    return bool(values[0] >= GREY_LEAST and slopes[0] >= SLOPES_LEAST)


def compressed(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=35)
    return Image.open(stream)


def cropped(picture: Image.Image, share: float) -> Image.Image:
    dx, dy = round(share * picture.width), round(share * picture.height)
    return picture.crop((dx, dy, picture.width - dx, picture.height - dy))


CHANGES = {
    "resized": lambda picture: picture.resize((picture.width * 2 // 5, picture.height * 2 // 5)),
    "recompressed": compressed,
    "brightened": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.6),
    "cropped": lambda picture: cropped(picture, 0.025),
    "cropped more": lambda picture: cropped(picture, 0.05),
    "corner": lambda picture: picture.crop((0, 0, round(0.95 * picture.width), round(0.95 * picture.height))),
    "all": lambda picture: compressed(ImageEnhance.Brightness(cropped(picture, 0.025)).enhance(1.15)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_is_the_same(change: str) -> None:
    for seed in range(3):
        picture = scene(seed, 400, 300)
        assert same(picture, CHANGES[change](picture)), seed
        assert same(CHANGES[change](picture), picture), seed


def test_other_pictures_are_not() -> None:
    pictures = [scene(seed) for seed in range(12)]
    assert not any(same(one, other) for k, one in enumerate(pictures) for other in pictures[:k])


def test_two_things_before_the_same_plain_background_are_not() -> None:
    """A studio: grey correlation alone is above 0.9 here."""

    def shirt(seed: int) -> Image.Image:
        picture = Image.new("RGB", (200, 200), (180, 30, 40))
        draw = ImageDraw.Draw(picture)
        draw.polygon([(50, 40), (150, 40), (185, 80), (155, 95), (155, 175), (45, 175), (45, 95), (15, 80)], "white")
        picture.paste(ImageEnhance.Contrast(scene(seed, 80, 80)).enhance(2), (60, 75))
        return picture

    one, other = shirt(1), shirt(2)
    values, _ = agreement(grey(one)[None], grey(other)[None])
    assert values[0] > 0.9
    assert not same(one, other)
    assert same(one, compressed(one))


def test_flat_pictures_agree_with_nothing() -> None:
    flat = np.full((1, 64, 64), 200, np.uint8)
    for other in (flat, grey(scene(1))[None]):
        assert [float(value[0]) for value in agreement(flat, other)] == [0, 0]


def test_coarse_is_the_correlation_of_rows() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (2, 5, 256), dtype=np.uint8)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(rows[0], rows[1], strict=True)]
    np.testing.assert_allclose(coarse(rows[0], rows[1]), expected, atol=1e-5)
