"""What the tests read out of the documents: blocks, commands, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
LEARN = sorted((ROOT / "docs" / "learn").glob("*/*.md"))

_FENCE = re.compile(r"(?:<!-- (run[^>]*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block. ``mark`` is what ``<!-- run … -->`` above it says, None without."""

    language: str
    text: str
    mark: str | None

    def commands(self) -> list[str]:
        """The lines after ``$``: the others are output."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [Block(match[2], match[3], match[1]) for match in _FENCE.finditer(text)]


def invocations(page: Path) -> Iterator[list[str]]:
    """Every ``resight …`` that a page shows, in blocks or in the text, split as a shell would."""
    text = page.read_text("utf-8")
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    for line in [*lines, *_INLINE.findall(_FENCE.sub("", text))]:
        if re.match(r"resight( |$)", line):
            yield shlex.split(line.partition("  ")[0], comments=True)[1:]


def links(page: Path) -> Iterator[Path]:
    """Where relative links and pictures lead."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text("utf-8"))):
        if "://" not in target and not target.startswith("#"):
            yield page.parent / target.partition("#")[0]
