from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

import resight.images
from resight.images import printable


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in shown)
    shown.encode("utf-8")


def test_the_rest_stays() -> None:
    assert printable("Äpfel 苹果 '\"<b>=1+1.jpg") == "Äpfel 苹果 '\"<b>=1+1.jpg"
    assert printable("a\nb\x1b\u202e\udcff\U000e0001") == r"a\nb\x1b\u202e\udcff\U000e0001"
    assert printable("x" * 1000, limit=10) == "xxxxx…xxxxx"


def test_exported_names_are_there() -> None:
    assert sorted(resight.images.__all__) == sorted(set(resight.images.__all__))
    assert all(hasattr(resight.images, name) for name in resight.images.__all__)
