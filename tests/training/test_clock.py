"""Where the time goes: shares, and the sentence about what limits a training."""

from __future__ import annotations

import pytest

from resight.training.clock import Clock


def clock(**seconds: float) -> Clock:
    made = Clock()
    made.seconds.update(seconds)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"compute": 9.0, "data": 1.0}, "time: 90 % computing, 10 % waiting for pictures; computing limits"),
        ({"compute": 5.0, "data": 5.0}, "pictures limit this training: try more --workers"),
        ({"compute": 6.0, "writing": 4.0}, "writing limits this training: try a larger"),
        ({"compute": 2.0, "validation": 8.0}, "80 % validating, 20 % computing; computing limits"),
        ({}, ""),
    ],
)
def test_the_line_names_the_limit(seconds: dict[str, float], expected: str) -> None:
    text = clock(**seconds).text()
    assert expected in text
    assert bool(text) == bool(expected)


def test_time_counts_for_what_was_done_even_when_it_fails() -> None:
    made = Clock()
    with pytest.raises(ValueError, match="no"), made("writing"):
        raise ValueError("no")
    assert made.seconds["writing"] > 0
    assert list(made.waiting([1, 2, 3], "data")) == [1, 2, 3]
    assert made.seconds["data"] > 0
    assert made.seconds["compute"] == 0
