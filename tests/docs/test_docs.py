"""The documents tell the truth: what they show exists, and the tutorial runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import LEARN, PAGES, ROOT, Block, blocks, invocations, links

TUTORIAL = ROOT / "docs" / "tutorial.md"
KEPT = 20  # digits of each class that the tutorial is run on here: enough to train, soon done
EVERY = [*PAGES, *LEARN]
ids = [str(page.relative_to(ROOT).with_suffix("")) for page in EVERY]


@pytest.mark.parametrize("page", EVERY, ids=ids)
def test_commands_and_options_exist(page: Path) -> None:
    typer = pytest.importorskip("typer")
    from resight.cli import app

    commands = typer.main.get_command(app).commands
    for words in invocations(page):
        shown = "resight " + " ".join(words)
        names = [word for word in words if not word.startswith("-")]
        if not names:
            assert set(words) <= {"--help", "-h", "--version"}, shown
            continue
        assert names[0] in commands, f"{page.name}: there is no command in: {shown}"
        command = commands[names[0]]
        if hasattr(command, "commands"):  # a group, as study: its own commands have the options
            assert {*names[1:2]} & {*command.commands}, f"{page.name}: there is no command in: {shown}"
            command = command.commands[names[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= known | {"--help", "-h"}, f"{page.name}: {shown}"


def test_commands_are_found_in_the_documents() -> None:
    shown = [words[0] for page in PAGES for words in invocations(page) if words]
    assert {"train", "resume", "import", "preview", "eval", "predict", "models", "demo"} <= set(shown)


@pytest.mark.parametrize("page", EVERY, ids=ids)
def test_settings_exist(page: Path) -> None:
    pytest.importorskip("pydantic")
    from resight.recipes import TrainConfig, override

    for name, value in re.findall(r"--set ([a-z][\w.]+)=([^\s`]+)", page.read_text("utf-8")):
        override(TrainConfig(), {name: value})


@pytest.mark.parametrize("page", EVERY, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    assert not [str(target) for target in links(page) if not target.exists()]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = {name for page in PAGES for name in re.findall(r"(?:`|    |\$ )make (\w+)", page.read_text("utf-8"))}
    assert shown <= targets


def test_every_field_of_the_configuration_is_explained() -> None:
    pytest.importorskip("pydantic")
    from resight.recipes import RECIPES, TrainConfig

    from .fields import MEANING, PAGE, fields, written

    text = PAGE.read_text("utf-8")
    assert [name for name, _ in fields(TrainConfig)] == list(MEANING)
    assert written(text) == text, "run: python tests/docs/fields.py"
    assert [name for name in RECIPES if f"\n## {name}\n" not in text] == []


def test_names_in_python_blocks_exist() -> None:
    import resight

    python = [block.text for page in PAGES for block in blocks(page) if block.language == "python"]
    used = {name for text in python for name in re.findall(r"\bresight\.(\w+)", text)}
    assert used
    assert used <= set(resight.__all__)
    for text in python:
        compile(text, "a document", "exec")


def test_the_tutorial_runs(tmp_path: Path) -> None:
    """Every console block of the tutorial, in order, on a part of its data; and its Python."""
    for module in ("torch", "sklearn", "pydantic", "onnxscript"):
        pytest.importorskip(module)
    found = blocks(TUTORIAL)
    assert not [block.text for block in found if block.language == "console" and block.mark is None]
    for block in found:
        if block.mark is None:
            continue
        if block.language == "python":
            _run([sys.executable, "-c", block.text], tmp_path, 0)
        elif block.mark == "run and interrupt":
            _interrupt(block.commands()[0], tmp_path)
        else:
            _run_console(block, tmp_path)
        if "write_digits" in block.text:
            _thin_out(tmp_path / "digits")


def _run_console(block: Block, folder: Path) -> None:
    code = re.search(r"exit (\d+)", block.mark or "")
    *first, last = block.commands()
    for command in first:
        _run(["bash", "-c", command], folder, 0)
    _run(["bash", "-c", last], folder, int(code[1]) if code else 0)


def _run(command: list[str], folder: Path, expected: int) -> None:
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == expected, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


def _interrupt(command: str, folder: Path) -> None:
    """Presses Ctrl-C after the first epoch, as the tutorial tells people to do."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, env=_environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("epoch   1"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, "".join(lines)
    assert "resight resume" in lines[-1]


def _environment() -> dict[str, str]:
    bin_ = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "110"}


def _thin_out(root: Path) -> None:
    for folder in root.iterdir():
        for picture in sorted(folder.iterdir())[KEPT:]:
            picture.unlink()
