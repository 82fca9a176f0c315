"""What the tests read out of docs/learn, and the tool that keeps those pages in step with the code.

    python tests/docs/learn.py

runs every example, writes what it prints and draws into the English pages, and copies code and output into the Chinese
ones; and so the fenced blocks of README.md into README.zh-CN.md. Text is never touched.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEARN, PICTURES = ROOT / "docs" / "learn", ROOT / "docs" / "images" / "learn"
SOURCES = ROOT / "src" / "resight"
README, README_ZH = ROOT / "README.md", ROOT / "README.zh-CN.md"
ENGLISH, CHINESE = sorted((LEARN / "en").glob("*.md")), sorted((LEARN / "zh").glob("*.md"))

EXAMPLE = re.compile(r"<!-- run -->\n```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_QUOTE = re.compile(
    r"\[`([\w/]+\.py)`, `([\w.]+)`\]\((\S+)\)[^\n]*\n\n```py\n(.*?)^```$", re.MULTILINE | re.DOTALL
)  # a link that ends a paragraph, and the lines that stand there
_FORMULA = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^(`{3,})\w*\n.*?^\1$", re.MULTILINE | re.DOTALL)
_WORDS = re.compile(r"\\(?:text|mathrm|operatorname)\{[^}]*\}|\\(?:begin|end)\{\w+\}")
_NOTATION = re.compile(
    r"\\(?:frac|sum|sqrt|exp|ln|log|max|min|cos|pi|partial|left|right|leftarrow|[lr]floor|[lr]ceil|[lr]Vert|big|bar|tilde"
    r"|mathcal|cdot|in|le|approx|q?quad)(?![A-Za-z])"
)  # what no table has to explain


@dataclass(frozen=True)
class Quote:
    """Lines that a page says are in ``name`` (a function, a method, a constant) of a file below src/resight."""

    file: str
    name: str
    target: str
    text: str

    def wrong(self) -> str | None:
        """Why the quotation is not true, in words that say what to do; None where it is."""
        path = SOURCES / self.file
        if not path.exists():
            return f"there is no src/resight/{self.file} any more: quote the file that has these lines now"
        source = source_of(path, self.name)
        if source is None:
            return f"src/resight/{self.file} has no {self.name} any more: quote what does this now"
        if all(_within(part, source) for part in _parts(self.text)):
            return None
        return f"these lines are not in {self.name} of src/resight/{self.file}:\n{self.text}\nwhich is now\n{source}"


def _parts(text: str) -> Iterator[list[str]]:
    """The lines of a quotation without their indentation; ``…`` alone stands for lines left out."""
    for part in re.split(r"^\s*…\n", text, flags=re.MULTILINE):
        yield [line.strip() for line in part.splitlines() if line.strip()]


def _within(part: list[str], source: str) -> bool:
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    return bool(part) and any(lines[i : i + len(part)] == part for i in range(len(lines)))


def source_of(path: Path, name: str) -> str | None:
    """The lines of a function, class, ``Class.method`` or constant; None where the module has no such name."""
    text = path.read_text("utf-8")
    body: list[ast.stmt] = ast.parse(text).body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((node for node in body if part in _names(node)), None)
        if found is None:
            return None
        body = getattr(found, "body", [])
    assert found is not None
    return "\n".join(text.splitlines()[found.lineno - 1 : found.end_lineno])


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def quotes(text: str) -> list[Quote]:
    return [Quote(*match.groups()) for match in _QUOTE.finditer(text)]


def examples(text: str) -> list[tuple[str, str]]:
    """(code, what it prints) of each."""
    return EXAMPLE.findall(text)


def formulas(text: str) -> list[str]:
    return _FORMULA.findall(text)


def prose(text: str) -> str:
    """A page without its fenced blocks and its code in the line."""
    return re.sub(r"`[^`\n]+`", "", FENCED.sub("", text))


def inline_math(line: str) -> list[str]:
    return re.findall(r"\$([^$]*)\$", line)


def symbols(formula: str) -> set[str]:
    """The letters and Greek names of a formula, without notation such as ``\\sum``."""
    rest = _NOTATION.sub(" ", _WORDS.sub(" ", formula))
    greek = set(re.findall(r"\\([A-Za-z]+)", rest))
    return greek | set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", rest)))


def explained(text: str) -> set[str]:
    """The symbols in a page's tables of symbols: rows that begin with one."""
    rows = re.findall(r"^\| \$.*$", text, re.MULTILINE)
    return {symbol for row in rows for math in inline_math(row) for symbol in symbols(math)}


def run(code: str, folder: Path) -> str:
    """What an example prints; the picture that it draws is left in ``folder``."""
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), matplotlib.rc_context():
        exec(compile(code, "an example", "exec"), {"__name__": "example"})
    plt.close("all")
    return out.getvalue()


def written(text: str, made: Path) -> str:
    """An English page with what its examples print now; their pictures are put into ``made``."""
    for code, printed in examples(text):
        with tempfile.TemporaryDirectory() as folder:
            now = run(code, Path(folder))
            for picture in Path(folder).glob("*.png"):
                (made / picture.name).write_bytes(picture.read_bytes())
        text = text.replace(f"{code}```\n\n```text\n{printed}```", f"{code}```\n\n```text\n{now}```")
    return text


def with_blocks_of(original: str, translation: str, block: re.Pattern[str]) -> str:
    """A translation whose blocks are those of the original. Raises ValueError where it has more or fewer of them."""
    blocks = [match[0] for match in block.finditer(original)]
    if len(blocks) != len(block.findall(translation)):
        raise ValueError(f"the original has {len(blocks)} blocks, its translation {len(block.findall(translation))}")
    rest = iter(blocks)
    return block.sub(lambda _: next(rest), translation)


def copy_blocks() -> None:
    """From English into Chinese."""
    pairs = [(page, LEARN / "zh" / page.name, EXAMPLE) for page in ENGLISH]
    for page, other, block in [*pairs, (README, README_ZH, FENCED)]:
        if other.exists():
            other.write_text(with_blocks_of(page.read_text("utf-8"), other.read_text("utf-8"), block), "utf-8")


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for page in ENGLISH:
        page.write_text(written(page.read_text("utf-8"), PICTURES), "utf-8")
        print(page.name, flush=True)
    copy_blocks()


if __name__ == "__main__":
    main()
