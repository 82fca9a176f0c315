"""Camera and time out of EXIF blocks, sound or not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resight.images import Shot, find_shot


def block(time: str | None = "2024:05:06 07:08:09", serial: str | None = "S-77", model: str = "X100") -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Fuji", model, 6
    inner = exif.get_ifd(0x8769)
    if time is not None:
        inner[0x9003] = time
    if serial is not None:
        inner[0xA431] = serial
    return exif.tobytes()


def test_camera_serial_and_time() -> None:
    assert find_shot(block()) == Shot("Fuji X100", "S-77", 1714979289)
    later = find_shot(block(time="2024:05:06 07:08:12"))
    assert later is not None
    assert later.time == 1714979292
    assert find_shot(block(serial=None)) == Shot("Fuji X100", "", 1714979289)
    assert find_shot(block()[6:]) == find_shot(block())


def test_without_a_valid_time_there_is_none() -> None:
    for time in (None, "0000:00:00 00:00:00", "yesterday", ""):
        assert find_shot(block(time=time)) is None
    assert find_shot(b"") is None
    assert find_shot(b"Exif\x00\x00") is None


@given(st.data())
def test_no_damage_raises(data: st.DataObject) -> None:
    sound = bytearray(block())
    for _ in range(data.draw(st.integers(1, 8))):
        sound[data.draw(st.integers(6, len(sound) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(sound[: data.draw(st.integers(0, len(sound)))])
    assert find_shot(cut) is None or isinstance(find_shot(cut), Shot)
