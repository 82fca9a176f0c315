"""What `pip install` puts on a machine: all that the code reads from its own folders, and nothing of the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from resight.reporting.page import TEMPLATES
from resight.serving.page import FOLDER, read_page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "resight"


def own_files() -> set[str]:
    """Everything in the package's folder but what Python makes there, relative to ``src``."""
    return {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else() -> None:
    """As hatchling itself lists the files, without building."""
    builders = pytest.importorskip("hatchling.builders.wheel", reason="the build backend is not installed")
    listed = {file.distribution_path for file in builders.WheelBuilder(str(ROOT)).recurse_included_files()}
    assert listed == own_files()


def test_nothing_of_the_package_is_left_out() -> None:
    """hatchling takes the whole folder, but what its options or git's ignore list leave out."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["src/resight"]}
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout of git")
    names = "\n".join(f"src/{name}" for name in own_files())
    asked = ["git", "check-ignore", "--no-index", "--stdin"]
    ignored = subprocess.run(asked, input=names, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ignored.returncode, ignored.stdout) == (1, "")  # 1: none


def test_what_the_code_reads_lies_in_the_package() -> None:
    files = own_files()
    assert "resight/py.typed" in files
    page = read_page()
    inside = FOLDER.relative_to(PACKAGE.parent).as_posix()
    assert {f"{inside}/{name}" for name in page} == {name for name in files if name.startswith(f"{inside}/")}
    for file in page.values():  # scripts, styles, pictures that a page file asks for
        for name in re.findall(rb"(?:/page/|from \"\./)([A-Za-z0-9_.-]+)", file.content):
            assert name.decode() in page
    asked = set()
    for path in (*PACKAGE.glob("reporting/*.py"), *TEMPLATES.iterdir()):
        asked |= set(re.findall(r"[\"']([a-z_]+\.(?:html|css))[\"']", path.read_text("utf-8")))
    assert asked >= {"report.html", "doctor.html", "explain.html"}
    assert not {name for name in asked if not (TEMPLATES / name).is_file()}
