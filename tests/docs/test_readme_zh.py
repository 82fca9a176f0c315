"""README.zh-CN.md is README.md in Chinese: the same blocks and commands in the same order. Text is for translators."""

from __future__ import annotations

import re

from .learn import FENCED, README, README_ZH, with_blocks_of

ENGLISH, CHINESE = README.read_text("utf-8"), README_ZH.read_text("utf-8")
HOW = "README.md has changed: bring README.zh-CN.md into step"


def test_fenced_blocks_are_the_same() -> None:
    mine, theirs = (re.findall(r"^```\w*\n.*?^```$", text, re.MULTILINE | re.DOTALL) for text in (ENGLISH, CHINESE))
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False), start=1):
        assert other == one, f"{HOW}: block {number} differs; python tests/docs/learn.py copies it"
    assert len(theirs) == len(mine), f"{HOW}: it has {len(theirs)} fenced blocks, README.md {len(mine)}"


def test_indented_commands_are_the_same() -> None:
    """Lines such as ``    pip install .    what it is for``: the first column; the second one is translated."""
    mine, theirs = (_first_columns(FENCED.sub("", text)) for text in (ENGLISH, CHINESE))
    assert theirs == mine, f"{HOW}: the commands or files at the start of its indented lines differ"


def test_commands_and_options_in_the_text_are_the_same() -> None:
    mine, theirs = (_commands(FENCED.sub("", text)) for text in (ENGLISH, CHINESE))
    assert theirs == mine, f"{HOW}: commands or options in the text differ"


def test_structure_is_the_same() -> None:
    for what, pattern in {
        "headings": r"^(#+) ",
        "pictures": r"!\[[^\]]*\]\(([^)]+)\)",
        "list items": r"^(- )",
        "rows of tables": r"^(\|)",
    }.items():
        mine, theirs = (re.findall(pattern, FENCED.sub("", text), re.MULTILINE) for text in (ENGLISH, CHINESE))
        assert theirs == mine, f"{HOW}: it has {len(theirs)} {what}, README.md {len(mine)}, or others"


def test_links_are_the_same() -> None:
    mine, theirs = (_links(text) for text in (ENGLISH, CHINESE))
    assert theirs == mine, f"{HOW}: links differ: {sorted(theirs ^ mine)}"


def test_each_links_to_the_other_at_its_top() -> None:
    assert "](README.zh-CN.md)" in ENGLISH.partition("\n## ")[0]
    assert "](README.md)" in CHINESE.partition("\n## ")[0]


def test_blocks_are_copied_and_text_is_not() -> None:
    copied = with_blocks_of("a\n```text\nnew\n```\nb", "甲\n```text\nold\n```\n乙", FENCED)
    assert copied == "甲\n```text\nnew\n```\n乙"


def _first_columns(text: str) -> list[str]:
    return [re.split(r"\s{2,}", line.strip())[0] for line in text.splitlines() if line.startswith("    ")]


def _commands(text: str) -> list[str]:
    """Sorted, since the order of words in a sentence differs between languages."""
    return sorted(re.findall(r"(?<!`)`((?:resight|pip|make|--)[^`\n]*)`", text))


def _links(text: str) -> set[str]:
    found = set(re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"}
    return {link.replace("learn/zh/", "learn/en/") for link in found}
