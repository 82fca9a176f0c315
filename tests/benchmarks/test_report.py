"""Results and the page made from them: nothing that was missed looks reached, and the page is what the results say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import common
import report


def result(*rows: dict[str, Any], target: str = "P3") -> dict[str, Any]:
    machine = {"cpu": "A CPU", "cores": "2", "python": "3.11.7", "torch": "2.14.1"}
    head = {"title": "A title", "target": target, "command": "python benchmarks/latency.py", "machine": machine}
    return {**head, "rows": list(rows), "notes": ["A note."]}


def line(case: str, ours: list[float], theirs: list[float], target: float | None = 1.8, **other: Any) -> dict[str, Any]:
    return common.row(case, ("Resight", ours), ("eager", theirs), unit="ms", target=target, equal="the same", **other)


SLOW = line("slow", [10, 11, 12], [11, 11, 13], more_is_better=False)
FAST = line("fast", [10, 11, 12], [20, 33, 30], more_is_better=False)
FREE = line("free", [1, 1, 1], [1, 1, 1], target=None)


def cells(page: str, first: str) -> list[str]:
    """The table row that begins with ``first``."""
    return next(
        [c.strip() for c in row.split("|")[1:-1]] for row in page.splitlines() if row.startswith(f"| {first} |")
    )


def test_a_ratio_pairs_the_rounds() -> None:
    assert common.ratio([2.0, 30.0], [1.0, 10.0]) == {"median": 2.5, "min": 2.0, "max": 3.0, "n": 2}
    with pytest.raises(ValueError, match="shorter"):
        common.ratio([1.0, 2.0], [1.0])


def test_above_one_is_better_for_times_and_for_rates() -> None:
    assert FAST["ratio"]["median"] == 2.5
    assert line("rates", [20, 20], [10, 10])["ratio"]["median"] == 2


def test_a_missed_row_is_shown_as_missed() -> None:
    page = report.page({"P3-latency": result(SLOW, FAST, FREE)}, "# Intro\n")
    assert cells(page, "slow")[-1] == "**missed**"
    assert cells(page, "fast")[-1] == "reached"
    assert cells(page, "free")[-2:] == ["", ""]


def test_one_missed_row_misses_the_target() -> None:
    page = report.page({"P3-latency": result(SLOW, FAST, FREE)}, "# Intro\n")
    assert cells(page, "P3")[4:] == ["**missed**", "1 of 2 [P3-latency](#p3-latency)"]
    assert '<a id="p3-latency"></a>' in page


def test_a_target_in_two_results_is_reached_by_both_or_missed() -> None:
    both = {"P3-a": result(FAST), "P3-b": result(SLOW)}
    assert cells(report.page(both, ""), "P3")[4] == "**missed**"
    assert cells(report.page({"P3-a": result(FAST), "P3-b": result(FAST)}, ""), "P3")[4] == "reached"


def test_what_has_no_rows_with_a_target_is_not_yet_measured() -> None:
    page = report.page({"P3-latency": result(FREE)}, "")
    assert [cells(page, code)[4] for code in report.TARGETS] == ["not yet measured"] * len(report.TARGETS)


def test_the_range_n_and_machine_are_shown() -> None:
    page = report.page({"P3-latency": result(FAST)}, "")
    expected = ["fast", "11 (10 to 12) ms", "30 (20 to 33) ms", "2.50× (2 to 3)", "3", "≥ 1.8×", "reached"]
    assert cells(page, "fast") == expected
    assert "A CPU, 2 cores; Python 3.11.7, torch 2.14.1." in page
    assert "Outputs: the same" in page
    assert "- A note." in page


def test_sides_with_other_names_are_named_in_each_row() -> None:
    other = common.row("one", ("A", [1.0]), ("B", [2.0]), unit="s", target=None, equal="")
    page = report.page({"x": result(FAST, other, target="")}, "")
    assert cells(page, "one")[1:3] == ["A: 1 (1 to 1) s", "B: 2 (2 to 2) s"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.4, "1,234"), (56.78, "56.8"), (1.0, "1"), (99.96, "100"), (0.01234, "0.0123"), (1e-9, "1e-09")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def test_results_are_in_natural_order() -> None:
    assert sorted(["P10-a", "P9-b", "P9-a"], key=report.natural) == ["P9-a", "P9-b", "P10-a"]


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"seconds": 1}')
    with pytest.raises(SystemExit, match=r"old\.json is not a result"):
        report.load(tmp_path)


def test_saved_results_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path / "results")
    common.save("P3-x", title="T", target="P3", command="c", rows=[FAST], notes=[])
    assert report.load(tmp_path / "results")["P3-x"]["rows"] == [FAST]


def test_the_committed_page_is_made_from_the_committed_results() -> None:
    results = report.load()
    assert {found["target"] for found in results.values()} <= {"", *report.TARGETS}
    made = report.page(results, report.INTRO.read_text("utf-8"))
    assert report.PAGE.read_text("utf-8") == made, "run: python benchmarks/report.py"


def test_every_script_is_in_the_readme() -> None:
    folder = Path(report.__file__).parent
    shown = set(re.findall(r"^\| `(\w+)\.py` \|", (folder / "README.md").read_text("utf-8"), re.MULTILINE))
    scripts = {path.stem for path in folder.glob("*.py") if re.search(r"\bsave\(\n", path.read_text("utf-8"))}
    assert scripts <= shown
