"""Is a commit slower than another? Runs the measures of measures.py against both, and compares them by ratio.

    python benchmarks/guard.py BASE [HEAD] [--rounds 5] [--limit 0.9] [--only WORD]

Both commits are checked out into temporary worktrees; the scripts beside this file run against each one's ``src``, in
turn (A B A B …). Prints a table of HEAD's speed over BASE's. Exits with 1 when a measure is slower: its median ratio
is below the limit and every round's ratio is below 1. A measure that BASE does not have is left out, by name; one that
only HEAD fails counts as slower.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common import ROOT, ratio
from measures import MEASURES

SCRIPT = Path(__file__).resolve().parent / "measures.py"
SIDES = ("base", "head")


@dataclass(frozen=True)
class Side:
    """One commit: its worktree, and a folder of its own for what measures need."""

    name: str
    tree: Path
    folder: Path


class Failed(Exception):
    """A measure could not be taken; the text is the last line of what it said."""


@dataclass(frozen=True)
class Verdict:
    """``ratios``: HEAD over BASE, summarised; None where there is a ``reason`` instead. ``slower`` fails the guard."""

    measure: str
    ratios: Mapping[str, float] | None
    slower: bool
    reason: str = ""


def judge(measure: str, base: list[float], head: list[float], limit: float) -> Verdict:
    """Values of each round, larger is better. Slower: the median ratio below ``limit``, and all of them below 1."""
    ratios = ratio(head, base)
    return Verdict(measure, ratios, ratios["median"] < limit and ratios["max"] < 1)


def left_out(measure: str, failed: Mapping[str, str]) -> Verdict:
    """``failed``: reasons by side. What works in BASE and not in HEAD counts as slower."""
    reason = "; ".join(f"{side}: {text}" for side, text in failed.items())
    return Verdict(measure, None, set(failed) == {"head"}, reason)


def table(verdicts: list[Verdict]) -> str:
    lines = ["| measure | head over base | n | |", "|---|---|---|---|"]
    for verdict in verdicts:
        if verdict.ratios is None:
            lines.append(
                f"| {verdict.measure} | left out ({verdict.reason}) | | {'**fails**' if verdict.slower else ''} |"
            )
            continue
        median, low, high = (verdict.ratios[name] for name in ("median", "min", "max"))
        shown = f"{median:.2f}× ({low:.2f} to {high:.2f})"
        lines.append(
            f"| {verdict.measure} | {shown} | {verdict.ratios['n']} | {'**slower**' if verdict.slower else ''} |"
        )
    return "\n".join(lines)


# ── measuring ──────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def worktree(commit: str, path: Path) -> Iterator[Path]:
    """The commit's files at ``path``, removed afterwards."""
    git("worktree", "add", "--detach", str(path), commit)
    try:
        yield path
    finally:
        git("worktree", "remove", "--force", str(path))


def git(*arguments: str) -> str:
    """Raises SystemExit with what git says."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def take(measure: str, side: Side) -> float:
    """One value, in a process of its own. Raises Failed."""
    path = os.pathsep.join([str(side.tree / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), measure, str(side.folder)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise Failed(said[-1] if said else f"exit code {done.returncode}")
    found = json.loads(done.stdout.splitlines()[-1])
    if not Path(found["resight"]).is_relative_to(side.tree):
        raise SystemExit(f"measured {found['resight']} instead of the worktree {side.tree}")
    return float(found["value"])


def compare(measure: str, sides: list[Side], rounds: int, limit: float) -> Verdict:
    """A B A B …; the first round in which a side fails is the last."""
    values: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        failed = {}
        for side in sides:
            try:
                values[side.name].append(take(measure, side))
            except Failed as error:
                failed[side.name] = str(error)
        if failed:
            return left_out(measure, failed)
    return judge(measure, values["base"], values["head"], limit)


def run(commits: list[str], measures: list[str], rounds: int, limit: float) -> list[Verdict]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        with (
            worktree(commits[0], root / "base" / "tree") as base,
            worktree(commits[1], root / "head" / "tree") as head,
        ):
            sides = [Side(name, tree, tree.parent) for name, tree in zip(SIDES, (base, head), strict=True)]
            for side in sides:
                try:
                    take("prepare", side)
                except Failed as error:  # measures that need the pictures or the Run will say so themselves
                    print(f"{side.name}: nothing could be prepared: {error}", file=sys.stderr)
            verdicts = []
            for measure in measures:
                verdicts.append(compare(measure, sides, rounds, limit))
                print(table(verdicts[-1:]).splitlines()[-1], file=sys.stderr)
            return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("head", nargs="?", default="HEAD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=0.9)
    parser.add_argument("--only", default="", help="measures whose name holds this word")
    args = parser.parse_args()
    commits = [git("rev-parse", "--verify", f"{name}^{{commit}}") for name in (args.base, args.head)]
    verdicts = run(commits, [name for name in MEASURES if args.only in name], args.rounds, args.limit)
    print(f"base {commits[0][:9]}, head {commits[1][:9]}, limit {args.limit}\n\n{table(verdicts)}")
    sys.exit(1 if any(verdict.slower for verdict in verdicts) else 0)


if __name__ == "__main__":
    main()
