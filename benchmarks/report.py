"""Writes docs/benchmarks.md from benchmarks/results/*.json: every target, reached or missed, and every table; and the
table in docs/export.md.

    python benchmarks/report.py

The page is a function of the results and of benchmarks/intro.md alone; a test holds the committed page to it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
EXPORT = ROOT / "docs" / "export.md"
BEGIN, END = "<!-- by benchmarks/report.py -->\n", "<!-- end -->"
"""Between these, docs/export.md has the table of ``export``, too."""
INTRO = Path(__file__).resolve().parent / "intro.md"
FIELDS = {"title", "target", "command", "machine", "rows", "notes"}
REACHED, MISSED, UNKNOWN = "reached", "**missed**", "not yet measured"

TARGETS = {
    "P1": ("training throughput at equal work", "torchvision's reference step", "≥ 1.3×, 1.15×, 80 % of a product"),
    "P2": ("wall-clock to equal test accuracy", "He's recipe on ResNet-20", "≥ 10× the full run, ≥ 4× a quarter"),
    "P3": ("latency of one picture, fp32", "torch eager", "≥ 1.8×"),
    "P4": ("int8", "the best fp32 backend", "≥ 1.8×, accuracy lost ≤ 0.5 points"),
    "P5": ("a folder of JPEG files, end to end", "timm's inference loop", "≥ 2.2× in fp32, ≥ 4× with int8"),
    "P6": ("cold start to the first label", "the same through torch", "≥ 5×"),
    "P7": ("JPEG files to training batches", "ImageFolder and DataLoader", "≥ 1.5×, 3× from 2 MP, 15× from epoch 2"),
    "P8": ("transfer to few pictures", "25 epochs of full fine-tuning", "≥ 5×, frozen features ≥ 30×"),
    "P9": ("cost of growth", "the smallest case", "time linear, memory flat beyond the cache"),
}
"""What is promised: the work, what it is measured against, and the ratios to reach."""

ALL_OF = {"P2": ("P2-cifar10-jpeg-quarter", "P2-fashion-mnist-quarter", "P2-cifar10-full")}
"""Results without which a target is not reached, where one script run makes only a part of them."""

Result = Mapping[str, Any]


def load(folder: Path = RESULTS) -> dict[str, Result]:
    """Results by name, in natural order. Raises SystemExit for a file that ``common.save`` did not write."""
    found = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: natural(path.stem)):
        result = json.loads(path.read_text("utf-8"))
        if not isinstance(result, dict) or set(result) - {"facts"} != FIELDS:
            raise SystemExit(f"{path} is not a result: expected the fields {', '.join(sorted(FIELDS))}")
        found[path.stem] = result
    return found


def natural(name: str) -> list[tuple[int, str]]:
    """A key by which P10 comes after P9."""
    return [(int(digits or 0), text) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def page(results: Mapping[str, Result], intro: str) -> str:
    """The whole document."""
    sections = [section(name, result) for name, result in results.items()]
    return "\n".join([intro.rstrip() + "\n", overview(results), *sections])


# ── the targets ────────────────────────────────────────────────────────────────────────────────────────────────


def state(row: Mapping[str, Any]) -> str:
    """Reached or missed, or not yet measured; empty for a row without a target."""
    if row["target"] is None:
        return ""
    if "lost" in row:
        return UNKNOWN if row["lost"] is None else REACHED if row["lost"]["median"] <= row["target"] else MISSED
    return REACHED if row["ratio"]["median"] >= row["target"] else MISSED


def overview(results: Mapping[str, Result]) -> str:
    """Every target with its state: missed as soon as one of its rows is, reached only when all are, of all results."""
    lines = [
        "## Targets",
        "",
        "| | work | against | to reach | state | rows reached |",
        "|---|---|---|---|---|---|",
    ]
    for code, (work, against, reach) in TARGETS.items():
        of_target = {name: result for name, result in results.items() if result["target"] == code}
        states = [state(row) for result in of_target.values() for row in result["rows"] if row["target"] is not None]
        lacking = [name for name in ALL_OF.get(code, ()) if name not in of_target]
        verdict = MISSED if MISSED in states else UNKNOWN if UNKNOWN in states or lacking or not states else REACHED
        reached = f"{states.count(REACHED)} of {len(states)}" if states else ""
        where = ", ".join([f"[{name}](#{anchor(name)})" for name in of_target] + [f"no {name}" for name in lacking])
        lines.append(f"| {code} | {work} | {against} | {reach} | {verdict} | {' '.join([reached, where]).strip()} |")
    return "\n".join(lines) + "\n"


def anchor(name: str) -> str:
    return re.sub(r"[^\w-]", "", name.lower())


# ── one result ─────────────────────────────────────────────────────────────────────────────────────────────────


def section(name: str, result: Result) -> str:
    """Title, command, machine, table, how outputs were compared, notes. The anchor keeps links short and stable."""
    lines = [f'<a id="{anchor(name)}"></a>', "", f"## {result['title']}", ""]
    if result["target"]:
        lines += [f"Target {result['target']}. {machine(result['machine'])}.", ""]
    else:
        lines += [f"{machine(result['machine'])}.", ""]
    lines += [f"    {result['command']}", ""]
    if result.get("facts"):
        lines += [*facts(result["facts"]), ""]
    if result["rows"] or not result.get("facts"):
        lines += [*table(result["rows"]), "", *compared(result["rows"])]
    if result["notes"]:
        lines += ["Notes:", "", *(f"- {note}" for note in result["notes"]), ""]
    return "\n".join(lines)


def machine(found: Mapping[str, str]) -> str:
    """``AMD EPYC, 2 cores, 2 threads, load 0.1 at the start; Python 3.11.7, torch 2.14.1, …; commit 1234567``"""
    apart = ("cpu", "cores", "threads", "load", "python", "commit")
    place = f"{found['cpu']}, {found['cores']} cores"
    place += f", {found['threads']} threads" if "threads" in found else ""
    place += f", load {found['load']} at the start" if "load" in found else ""
    versions = [f"Python {found['python']}", *(f"{name} {value}" for name, value in found.items() if name not in apart)]
    commit = f"; commit {found['commit']}" if "commit" in found else ""
    return f"{place}; {', '.join(versions)}{commit}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """One line a row. Where all rows have the same sides, these are the columns' heads."""
    heads = {tuple(row["sides"]) for row in rows if row["sides"]}
    shared = next(iter(heads)) if len(heads) == 1 else ()
    titles = list(map(cell, shared)) or ["Resight", "other side"]
    lines = [
        f"| case | {' | '.join(titles)} | times better | n | target | |",
        f"|---|{'---|' * len(titles)}---|---|---|---|",
    ]
    for row in rows:
        sides = [
            ("" if shared else f"{name}: ") + f"{spread(value)} {row['unit']}" for name, value in row["sides"].items()
        ]
        sides += [""] * (len(titles) - len(sides))
        cells = [row["case"], *sides, *outcome(row), state(row)]
        lines.append(f"| {' | '.join(map(cell, cells))} |")
    return lines


def facts(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line each, the first one's names as heads: text as it is, numbers shortened, of summaries the median. What
    the line above says in the first column is not said again.
    """
    heads = list(lines[0])
    shown = ["| " + " | ".join(map(cell, heads)) + " |", "|" + "---|" * len(heads)]
    above = None
    for line in lines:
        cells = [_fact(line[head]) for head in heads]
        shown.append("| " + " | ".join(["" if cells[0] == above else cells[0], *cells[1:]]) + " |")
        above = cells[0]
    return shown


def _fact(value: Any) -> str:
    if isinstance(value, str):
        return cell(value)
    if isinstance(value, int):
        return f"{value:,}"
    return number(value["median"] if isinstance(value, Mapping) else value)


def with_table(text: str, lines: Sequence[str]) -> str:
    """A page with these lines between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{EXPORT} has no place for the table: {BEGIN.strip()} … {END}")
    return f"{before}{BEGIN}" + "".join(f"{line}\n" for line in lines) + f"{END}{after}"


def outcome(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """What came out, n, and the target."""
    if "lost" not in row:
        target = "" if row["target"] is None else f"≥ {row['target']:g}×"
        return spread(row["ratio"], "×"), str(row["ratio"]["n"]), target
    target = "" if row["target"] is None else f"≤ {row['target']:g} points lost"
    return (f"{spread(row['lost'])} points lost", f"{row['lost']['n']:,}", target) if row["lost"] else ("", "", target)


def compared(rows: list[dict[str, Any]]) -> list[str]:
    """How the outputs of each row's sides were compared; said once where it is the same for all."""
    texts = list(dict.fromkeys((row["case"], row["equal"]) for row in rows if row["equal"]))
    if not texts:
        return []
    if len(rows) == sum(bool(row["equal"]) for row in rows) and len({text for _, text in texts}) == 1:
        return [f"Outputs: {texts[0][1]}", ""]
    return ["Outputs:", "", *(f"- {case}: {text}" for case, text in texts), ""]


def spread(values: Mapping[str, float], sign: str = "") -> str:
    """Median, and the range in brackets."""
    median, low, high = (number(values[name]) for name in ("median", "min", "max"))
    return f"{median}{sign} ({low} to {high})"


def number(value: float) -> str:
    """Three significant digits, without an exponent where it can be avoided: 1,234 and 56.7 and 0.0123."""
    if value == 0 or not 1e-4 <= abs(value) < 1e15:
        return f"{value:.3g}"
    digits = max(0, 2 - int(f"{value:.2e}".partition("e")[2]))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if value == int(value) and "." in text else text


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    results = load()
    PAGE.write_text(page(results, INTRO.read_text("utf-8")), "utf-8")
    if "export" in results:
        EXPORT.write_text(with_table(EXPORT.read_text("utf-8"), facts(results["export"]["facts"])), "utf-8")
    states = [state(row) for result in results.values() for row in result["rows"]]
    print(f"{PAGE.relative_to(ROOT)}: {states.count(REACHED)} reached, {states.count(MISSED)} missed", file=sys.stderr)


if __name__ == "__main__":
    main()
