"""P8's parts do not overlap, and its intervals are those of paired pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import transfer
import transfer_result


def test_parts_share_no_picture_and_the_test_part_is_whole(tmp_path: Path) -> None:
    for part, count in (("train", 30), ("val", 7)):
        for label in ("a", "b"):
            (tmp_path / "data" / part / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "data" / part / label / f"{part}{number}.jpg").write_bytes(b"")
    for seed in (0, 1):
        transfer.lay_out(tmp_path / "data", tmp_path / str(seed), seed, 20)
    names = {
        part: {path.relative_to(tmp_path / "0" / part) for path in (tmp_path / "0" / part).rglob("*.jpg")}
        for part in ("train", "val", "test")
    }
    assert {part: len(found) for part, found in names.items()} == {"train": 36, "val": 4, "test": 14}
    assert not names["train"] & names["val"]
    others = {path.relative_to(tmp_path / "1" / "train") for path in (tmp_path / "1" / "train").rglob("*.jpg")}
    assert others != names["train"]


def test_what_is_lost_is_a_mean_over_seeds_with_an_interval_over_pictures() -> None:
    random = np.random.default_rng(0)
    ours, theirs = ([random.random(400) < share for _ in range(3)] for share in (0.6, 0.7))
    found = transfer_result.lost(ours, theirs)
    each = np.mean([b.astype(int) - a.astype(int) for a, b in zip(ours, theirs, strict=True)], axis=0)
    assert found["median"] == pytest.approx(100 * each.mean())
    assert found["max"] - found["median"] == pytest.approx(196 * each.std(ddof=1) / 20)
    assert found["n"] == 400
