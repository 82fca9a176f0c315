"""The pages of docs/learn tell the truth: they run, quote what is in the code, and say the same in both languages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .learn import (
    CHINESE,
    ENGLISH,
    FENCED,
    LEARN,
    PICTURES,
    README_ZH,
    Quote,
    examples,
    explained,
    formulas,
    inline_math,
    prose,
    quotes,
    run,
    symbols,
)

PAGES = [*ENGLISH, *CHINESE]
LESSONS = [page for page in PAGES if page.name != "README.md"]
AGAIN = "python tests/docs/learn.py writes it anew"


def ids(pages: list[Path]) -> list[str]:
    return [f"{page.parent.name}/{page.stem}" for page in pages]


@pytest.mark.parametrize("page", [page for page in LESSONS if page in ENGLISH], ids=lambda page: page.stem)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    """Those of the English pages: the Chinese ones have the same, see below."""
    for module in ("torch", "sklearn", "matplotlib", "pydantic"):
        pytest.importorskip(module)
    found = examples(page.read_text("utf-8"))
    assert len(found) == 1, "each page has one example: <!-- run -->, its code, and what it prints as ```text"
    code, printed = found[0]
    now = run(code, tmp_path)
    assert alike(printed, now), f"{page.name} shows\n{printed}\nand its example prints\n{now}\n{AGAIN}"
    made = sorted(tmp_path.iterdir())
    assert [path.name for path in made] == [f"{page.stem}.png"]
    shown = PICTURES / made[0].name
    assert shown.stat().st_size < 60_000, "pictures of the documents are small files"
    assert look_alike(made[0], shown), f"{shown.name} is not what the example draws: {AGAIN}"


def alike(printed: str, now: str) -> bool:
    """The same words, and numbers that differ no more than other processors, threads and versions make them."""
    number = r"[\d,]*\.?\d+(?:e[+-]?\d+)?"
    words, others = (re.sub(r"\s+", " ", re.sub(number, "#", text)).strip() for text in (printed, now))
    pairs = zip(*(re.findall(number + "(?: %)?", text) for text in (printed, now)), strict=False)
    return words == others and all(near(*pair) for pair in pairs)


def near(one: str, other: str) -> bool:
    """A trained network's percentages within four points, other numbers within a twentieth or their last digit."""
    if one.endswith("%"):
        return abs(float(one[:-2]) - float(other[:-2])) <= 4
    first, second = (float(text.replace(",", "")) for text in (one, other))
    decimals = len(one.partition("e")[0].partition(".")[2])
    return abs(first - second) <= max(0.05 * abs(first), 1.01 * 10.0**-decimals if "e" not in one else 0)


def look_alike(one: Path, other: Path) -> bool:
    """Pictures of one size whose coarse brightness is nearly the same: fonts may differ a little."""
    with Image.open(one) as first, Image.open(other) as second:
        if first.size != second.size:
            return False
        small = [
            np.asarray(picture.convert("L").resize((64, 24), Image.Resampling.BOX), float)
            for picture in (first, second)
        ]
    return bool(np.abs(small[0] - small[1]).mean() < 4)


def test_what_counts_as_alike() -> None:
    assert alike("loss 2.3, 91 % right", "loss 2.4, 92 % right")
    assert not alike("loss 2.3", "loss 2.9")
    assert not alike("passed True", "passed False")
    assert not alike("1e-14", "1e-11")


@pytest.mark.parametrize("page", LESSONS, ids=ids(LESSONS))
def test_quoted_lines_are_in_the_code(page: Path) -> None:
    text = page.read_text("utf-8")
    found = quotes(text)
    blocks = text.count("\n```py\n")
    assert len(found) == blocks >= 1, "each quotation (```py) follows a line with [`file.py`, `name`](…) directly"
    assert [quote.target for quote in found] == [f"../../../src/resight/{quote.file}" for quote in found]
    wrong = [problem for quote in found if (problem := quote.wrong())]
    assert not wrong, f"{page}: " + "\n".join(wrong)


def test_what_a_false_quotation_is_told() -> None:
    line = "return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)"
    assert Quote("models/layers.py", "conv", "", line).wrong() is None
    assert "not in conv" in (Quote("models/layers.py", "conv", "", line.replace("// 2", "// 3")).wrong() or "")
    assert "has no convolve" in (Quote("models/layers.py", "convolve", "", line).wrong() or "")
    assert "there is no" in (Quote("models/layer.py", "conv", "", line).wrong() or "")


def test_what_a_symbol_is() -> None:
    assert symbols(r"\bar{w} \leftarrow \frac{\partial \mathcal{L}}{\gamma} + \mathrm{ReLU}(x_i)") == {*"wLxi", "gamma"}


@pytest.mark.parametrize("page", LESSONS, ids=ids(LESSONS))
def test_every_symbol_is_explained(page: Path) -> None:
    text = page.read_text("utf-8")
    found = formulas(text)
    assert found, "a page without a formula"
    used = {symbol for formula in found for symbol in symbols(formula)}
    assert used - explained(text) == set(), "a table below must say what these symbols mean"


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_mathematics_as_github_reads_it(page: Path) -> None:
    """Inline formulas need a space before them, none inside and no letter after; Markdown would eat some characters."""
    for line in prose(page.read_text("utf-8")).splitlines():
        assert line.count("$") % 2 == 0, line
        for before, math, after in re.findall(r"(^|.)\$([^$]*)\$(.|$)", line):
            assert before in ("", " "), f"a space before ${math}$: {line}"
            assert after in ("", " ", *".,;:)"), f"a space after ${math}$: {line}"
            assert math == math.strip(), line
        for math in inline_math(line):
            assert not re.search(r"[*|<>`]|\}_|\\[^A-Za-z]", math), f"Markdown changes ${math}$"


SAME: dict[str, Callable[[str], object]] = {
    "examples and what they print": examples,
    "formulas": formulas,
    "quotations": quotes,
    "pictures": lambda text: re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text),
    "levels of headings": lambda text: re.findall(r"^(#+) ", text, re.MULTILINE),
    "blocks": lambda text: re.findall(r"^```(\w+)$", text, re.MULTILINE),
    "symbols in tables": lambda text: re.findall(r"^\| (\$[^|]+?) \|", text, re.MULTILINE),
    "commands in the text": lambda text: sorted(re.findall(r"(?<!`)`(resight [^`\n]+)`", text)),
    "links": lambda text: sorted(_links(text)),
    "questions": lambda text: len(re.findall(r"^\d+\. ", text, re.MULTILINE)),
}


@pytest.mark.parametrize("page", ENGLISH, ids=ids(ENGLISH))
def test_both_languages_have_the_same(page: Path) -> None:
    other = LEARN / "zh" / page.name
    assert other.exists(), f"docs/learn/zh/{page.name} is missing: translate docs/learn/en/{page.name}"
    mine, theirs = page.read_text("utf-8"), other.read_text("utf-8")
    for what, found in SAME.items():
        assert found(theirs) == found(mine), f"zh/{page.name} has other {what} than en/{page.name}"


@pytest.mark.parametrize("page", [*CHINESE, README_ZH], ids=lambda page: page.stem)
def test_chinese_lines_break_at_spaces_only(page: Path) -> None:
    """A line break is shown as a space, which Chinese has none of."""
    stops, wide = "[\u3001-\u3011\uff01-\uff1f]", "[\u3001-\u303f\u4e00-\u9fff\uff01-\uff60]"
    text = FENCED.sub("", page.read_text("utf-8"))
    assert re.findall(rf".*(?:{wide}\**\n(?:\*\*|\[)?{wide}|{stops}\n[\[`A-Za-z]).*", text) == []


def test_no_page_is_in_one_language_only() -> None:
    assert [page.name for page in ENGLISH] == [page.name for page in CHINESE]
    assert len(LESSONS) == 20


def _links(text: str) -> list[str]:
    """Where a page leads, whichever its language."""
    targets = re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", text)
    return [re.sub(r"\.\./(en|zh)/|\.zh-CN", "", target) for target in targets]
