"""What comparisons of trainings share: the tables of pictures, and the file that gathers results."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path

import pytest

import distillation
import imbalance
import pieces


def row(option: str, seed: int, value: float) -> pieces.Row:
    values = {"accuracy": value, "macro_f1": value, "log_loss": 1.0, "ece": 0.1}
    return {"option": option, "seed": seed, "epochs": 3.0, "steps": 9, "threads": 1, **values, "recalls": [value] * 7}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for part, each in (("train", 12), ("test", 3)):
        for name in ("b", "a"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for number in range(each):
                (folder / f"{number:02}.jpg").write_bytes(f"{part}{name}{number}".encode())
    return tmp_path / "data"


def test_the_profile_is_exponential() -> None:
    counts = imbalance.profile()
    assert (counts[0], counts[-1], len(counts)) == (4500, 45, 10)
    ratios = [a / b for a, b in itertools.pairwise(counts)]
    assert ratios == pytest.approx([100 ** (1 / 9)] * 9, rel=0.02)


def test_a_table_holds_the_first_to_train_on_and_the_last_to_validate(data: Path, tmp_path: Path) -> None:
    table = pieces.write_table(data, tmp_path / "made", [10, 2], share=0.2)
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert Counter((line["label"], line["split"]) for line in rows) == {
        ("a", "train"): 10, ("a", "val"): 2, ("a", "test"): 3, ("b", "train"): 2, ("b", "val"): 1, ("b", "test"): 3,
    }  # fmt: skip
    assert (table.parent / "val" / "b" / "11.jpg").read_bytes() == b"trainb11"
    assert all((table.parent / line["path"]).is_file() for line in rows)
    with pytest.raises(SystemExit, match="has 12 pictures"):
        pieces.write_table(data, tmp_path / "more", [11, 11], share=0.2)


def test_results_are_gathered_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "results" / "some.json"
    for option, seed, value in (("none", 0, 0.5), ("logit", 0, 0.57), ("none", 1, 0.52)):
        pieces.add(path, row(option, seed, value), ["said"])
    pieces.add(path, row("none", 1, 0.54), ["said"])  # replaced
    assert list(pieces.missing(path, ["none", "logit"], [0, 1], 3.0)) == [("logit", 1)]
    assert len(list(pieces.missing(path, ["none"], [0, 1], 4.0))) == 2
    rows = pieces.load(path)
    assert sorted((r["option"], r["seed"], r["macro_f1"]) for r in rows) == [
        ("logit", 0, 0.57), ("none", 0, 0.5), ("none", 1, 0.54),
    ]  # fmt: skip
    assert "| `logit` | 1 | 57.0 % | +7.0 (+7.0) | 57.0 % |" in imbalance.table(rows)
    assert "| `none` | 2 | 9 | 52.0 ± 2.8 % | – | 1.000 | 10.0 ± 0.0 % |" in distillation.table(rows)


def test_settings_are_read_from_an_option() -> None:
    assert pieces.settings_of("teacher:distill.weight=0.9:distill.temperature=2") == {
        "distill.weight": "0.9", "distill.temperature": "2",
    }  # fmt: skip
    assert pieces.settings_of("logit") == {}
