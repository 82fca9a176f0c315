"""Results and the page made from them: nothing that was missed looks reached, and the page is what the results say."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

import common
import export_rows
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


def test_a_part_of_the_results_does_not_reach_the_target() -> None:
    first, *others = report.ALL_OF["P2"]
    some, whole = {first: result(FAST, target="P2")}, {n: result(FAST, target="P2") for n in (first, *others)}
    assert cells(report.page(some, ""), "P2")[4] == "not yet measured"
    assert all(f"no {name}" in cells(report.page(some, ""), "P2")[5] for name in others)
    assert cells(report.page(whole, ""), "P2")[4] == "reached"
    assert cells(report.page({**some, others[0]: result(SLOW, target="P2")}, ""), "P2")[4] == "**missed**"


def lost(points: float) -> dict[str, Any]:
    found = {"median": points, "min": points - 1, "max": points + 1, "n": 1234}
    ours, theirs = ("int8", {**found, "median": 80.0 - points}), ("fp32", {**found, "median": 80.0})
    return common.lost_row("accuracy", ours, theirs, found, unit="%", target=0.5, equal="the same pictures")


UNMEASURED = common.lost_row("accuracy", unit="%", target=0.5, equal="--trained was not given")


@pytest.mark.parametrize(("points", "verdict"), [(-0.2, "reached"), (0.5, "reached"), (0.51, "**missed**")])
def test_accuracy_that_was_lost_misses_the_target_however_quick_it_is(points: float, verdict: str) -> None:
    page = report.page({"P4-int8": result(FAST, lost(points), target="P4")}, "")
    assert cells(page, "accuracy")[-2:] == ["≤ 0.5 points lost", verdict]
    assert cells(page, "accuracy")[-3] == "1,234"
    assert cells(page, "accuracy")[3].startswith(f"{report.number(points)} ({report.number(points - 1)} to ")
    assert cells(page, "P4")[4] == verdict


def test_accuracy_that_was_not_measured_is_said_and_reaches_nothing() -> None:
    page = report.page({"P4-int8": result(FAST, UNMEASURED, target="P4")}, "")
    assert cells(page, "accuracy") == ["accuracy", "", "", "", "", "≤ 0.5 points lost", "not yet measured"]
    assert cells(page, "P4")[4:] == ["not yet measured", "1 of 2 [P4-int8](#p4-int8)"]
    assert "--trained was not given" in page
    missed = report.page({"P4-int8": result(SLOW, UNMEASURED, target="P4")}, "")
    assert cells(missed, "P4")[4] == "**missed**"


def found(run: float, artefact: float, low: float, high: float) -> dict[str, Any]:
    """What a gate says, as `resight export` keeps it."""
    difference = {"value": artefact - run, "low": low, "high": high, "method": "newcombe"}
    accuracy = {"run": run, "artefact": artefact}
    return {"pictures": 1000, "of": "labelled ones", "decided": 990, "top1_agreement": 0.97, "max_abs": 0.25} | {
        "mean_abs": 1e-4,
        "accuracy": accuracy,
        "difference": difference,
    }


def test_what_int8_lost_is_the_gates_difference_the_other_way_round() -> None:
    row = export_rows.accuracy_row("net", "onnx-int8", found(0.99, 0.98, -0.022, 0.002), ("layer1.0.conv1",))
    assert {name: values["median"] for name, values in row["sides"].items()} == {"onnx-int8": 98, "fp32": 99}
    assert row["lost"] == {"median": pytest.approx(1), "min": pytest.approx(-0.2), "max": pytest.approx(2.2), "n": 1000}
    assert report.state(row) == report.MISSED
    assert "the same best class for 97.00 %; in fp32 stayed: layer1.0.conv1" in row["equal"]
    assert report.state(export_rows.accuracy_row("net", "onnx-int8", found(0.98, 0.98, 0, 0), ())) == report.REACHED


def test_int8_is_beside_the_best_fp32_of_each_batch() -> None:
    rates = {
        "model.onnx, onnxruntime": ([10.0, 10.0], [90.0, 90.0]),
        "model.onnx, openvino": ([20.0, 20.0], [40.0, 40.0]),
        "openvino-int8": ([30.0, 50.0], [180.0, 180.0]),
        "onnx-int8": ([20.0, 20.0], [90.0, 90.0]),
    }
    rows = [row for name in ("openvino-int8", "onnx-int8") for row in export_rows.speed_rows("net", name, rates, False)]
    assert [row["ratio"]["median"] for row in rows] == [2, 2, 1, 1]
    assert [list(row["sides"])[1] for row in rows[:2]] == [
        "fp32, model.onnx, openvino",
        "fp32, model.onnx, onnxruntime",
    ]
    assert {row["target"] for row in rows} == {None}
    assert [row["target"] for row in export_rows.speed_rows("net", "onnx-int8", rates, True)] == [1.8, 1.8]


def test_facts_are_shown_as_they_are_and_the_first_column_once() -> None:
    own, rates = ([100.0, 100.0], [200.0, 200.0]), ([50.0, 250.0], [300.0, 300.0])
    first = export_rows.fact("net", "model.onnx, onnxruntime", None, 1_500_000, own, own)
    second = export_rows.fact("net", "openvino", found(0.9, 0.9, -0.01, 0.01), 2_000_000, rates, own)
    lines = report.facts([first, second])
    assert lines[2].startswith("| net | model.onnx, onnxruntime | ")
    told = [cell.strip() for cell in lines[3].split("|")[1:-1]]
    assert told[:3] == ["", "openvino", "1,000"]
    assert told[3:7] == ["97.00 % of 990", "0.250", "0.000100", "+0.00 [-1.00, +1.00]"]
    assert told[7:] == ["2", "12", "300", "1.50×, 1.50×"]
    page = report.page({"export": result() | {"facts": [first, second]}}, "")
    assert lines[3] in page
    assert "times better" not in page.partition("A title")[2]


def test_commit_threads_and_load_are_recorded_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = common.machine(3)
    assert found["threads"] == "3"
    assert float(found["load"]) >= 0
    assert common.machine()["threads"] == str(len(os.sched_getaffinity(0)))
    monkeypatch.setattr(common, "commit", lambda: "1234567-dirty")
    shown = report.machine({"cpu": "A CPU", "cores": "2", **common.machine(3), "load": "0.25"})
    assert ", 3 threads, load 0.25 at the start; Python 3." in shown
    assert shown.endswith("; commit 1234567-dirty")


def test_outside_of_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "ROOT", tmp_path)
    assert common.commit() == ""
    assert "commit" not in common.machine()


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
    [
        (0, "0"),
        (1234.4, "1,234"),
        (56.78, "56.8"),
        (1.0, "1"),
        (99.96, "100"),
        (0.01234, "0.0123"),
        (1e-9, "1e-09"),
        (112870.0, "112,870"),
    ],
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
    text = report.EXPORT.read_text("utf-8")
    assert report.with_table(text, report.facts(results["export"]["facts"])) == text, "run: python benchmarks/report.py"


def test_every_script_is_in_the_readme() -> None:
    folder = Path(report.__file__).parent
    shown = set(re.findall(r"^\| `(\w+)\.py` \|", (folder / "README.md").read_text("utf-8"), re.MULTILINE))
    scripts = {path.stem for path in folder.glob("*.py") if re.search(r"(?m)^ +save\(", path.read_text("utf-8"))}
    assert scripts <= shown
