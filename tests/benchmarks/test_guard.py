"""The guard on two commits of a small repository, whose speed is a number in its code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import guard

MEASURE = """
import json, sys
import resight
names = {"prepare": lambda: 1.0, "speed": lambda: resight.SPEED, "new": lambda: resight.NEW, "old": lambda: resight.OLD}
print(json.dumps({"value": names[sys.argv[1]](), "resight": resight.__file__}))
"""


@pytest.mark.parametrize(
    ("base", "head", "slower"),
    [
        ([10, 10, 10], [5, 6, 7], True),
        ([10, 10, 10], [9.5, 9.6, 9.7], False),  # all below 1, but the median is within the limit
        ([10, 10, 10], [5, 6, 11], False),  # one round says otherwise
        ([10, 20, 30], [20, 40, 60], False),
    ],
)
def test_slower_is_below_the_limit_in_every_round(base: list[float], head: list[float], slower: bool) -> None:
    assert guard.judge("m", base, head, 0.9).slower is slower


def test_what_only_head_fails_counts_as_slower() -> None:
    assert guard.left_out("m", {"head": "no such name"}).slower
    assert not guard.left_out("m", {"base": "no such name"}).slower
    assert not guard.left_out("m", {"base": "no such name", "head": "no such name"}).slower


def commit(repository: Path, code: str) -> str:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *who, *arguments], cwd=repository, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    package = repository / "src" / "resight"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(code)
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "a commit")
    return git("rev-parse", "HEAD")


def test_two_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, script = tmp_path / "repository", tmp_path / "measures.py"
    script.write_text(MEASURE)
    commits = [commit(repository, "SPEED = 10\nOLD = 1\n"), commit(repository, "SPEED = 8  # slower\nNEW = 1\n")]
    monkeypatch.setattr(guard, "ROOT", repository)
    monkeypatch.setattr(guard, "SCRIPT", script)
    speed, new, old = guard.run(commits, ["speed", "new", "old"], rounds=2, limit=0.9)
    assert speed.slower
    assert speed.ratios == {"median": 0.8, "min": 0.8, "max": 0.8, "n": 2}
    assert not new.slower
    assert new.reason.startswith("base: AttributeError")
    assert old.slower
    assert "| new | left out (base: AttributeError" in guard.table([speed, new, old])
    assert "| speed | 0.80× (0.80 to 0.80) | 2 | **slower** |" in guard.table([speed, new, old])
    assert len(guard.git("worktree", "list").splitlines()) == 1
