"""JSON from strangers: no NaN, nothing infinite, nothing too deep, with the place in words; and none is written."""

from __future__ import annotations

import ast
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.inference import tiny

import resight
from resight.errors import ResightError, RunError
from resight.runs import CARD, CONFIG, HISTORY, Run, RunCard
from resight.runs.plain_json import json_bytes, read_json


@pytest.mark.parametrize("value", [0, -1.5, 1e308, 5e-324, 0.1 + 0.2, True, None, "NaN", "\ud800", {"a": [{}, [1.0]]}])
def test_it_reads_what_json_reads_and_what_it_wrote(value: Any) -> None:
    text = json.dumps({"value": value})
    assert read_json(text) == json.loads(text)
    assert read_json(json_bytes({"value": value})) == {"value": value}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("NaN", "it is NaN"),
        ("[0, Infinity]", r"\[1\] is Infinity"),
        ('{"metrics": {"val": [{"loss": 1}, {"loss": -Infinity}]}}', r"metrics\.val\[1\]\.loss is -Infinity"),
        ('{"a": 1e999, "b": NaN}', "a is 1e999"),
        ('{"a": -1E400}', "a is -1E400"),
        ('{"a": [-1' + "0" * 308 + "]}", r"a\[0\] is -1"),
        ("1" * 5000, "it is 1"),
        ('{"a": NaN, "a": 1}', "a value is NaN"),  # of two of a name the last one counts
        ('{"\\u202e": NaN}', r"\\u202e is NaN"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, place: str) -> None:
    for data in (text, text.encode()):
        with pytest.raises(ValueError, match=place):
            read_json(data)


def test_none_is_written() -> None:
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=r"metrics\.val\[1\] is"):
            json_bytes({"metrics": {"val": (0.5, value)}})


@pytest.mark.parametrize("field", ["data", "metrics", "parity", "unknown", "transfer", "environment"])
@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_card_with_a_number_that_is_none_is_refused(tmp_path: Path, field: str, number: str) -> None:
    run = tiny.make_run(tmp_path / "run")
    path = run.path / CARD
    plain = json.loads(path.read_bytes())
    plain[field] = plain[field] | {"odd": ["HERE"]}
    path.write_text(json.dumps(plain).replace('"HERE"', number))
    with pytest.raises(RunError, match=rf"run\.json is not valid JSON: {field}\.odd\[0\] is {number}"):
        Run.open(run.path)


def test_an_integer_that_no_float_holds_is_refused(tmp_path: Path) -> None:
    run = tiny.make_run(tmp_path / "run")
    plain = json.loads((run.path / CARD).read_bytes()) | {"mean": [10**400, 0, 0]}
    with pytest.raises(RunError, match=r"mean\[0\] is 1"):
        RunCard.from_json(json.dumps(plain).encode(), Path("run.json"))


@pytest.mark.parametrize("name", [CONFIG, HISTORY])
def test_other_files_of_a_run_are_refused_with_file_and_place(tmp_path: Path, name: str) -> None:
    run = Run(tmp_path, replace(tiny.make_run(tmp_path / "run").card, status="trained"))
    (tmp_path / name).write_text('{"data": {"path": Infinity}}')
    with pytest.raises(RunError, match=rf"{name} is not valid JSON: data\.path is Infinity"):
        run.read_json(name)


def test_a_configuration_is_refused_with_file_and_place() -> None:
    from resight.recipes import TrainConfig

    with pytest.raises(ResightError, match=r"config\.json is not valid JSON: model\.options\.width is NaN"):
        TrainConfig.from_json(b'{"model": {"options": {"width": NaN}}}', "config.json")


OWN = {  # modules whose json.loads sees only what Resight itself has just written, or what a person typed
    "advising/graphs.py", "advising/measure.py", "advising/worker.py", "inference/measure.py", "cli/options.py",
    "exporting/about.py", "recipes/config.py", "training/shard.py",
    "tuning/journal.py", "runs/plain_json.py",
}  # fmt: skip


def test_nothing_else_reads_json() -> None:
    """A new reader of files takes ``read_json``, or says here why it need not."""
    source, found = Path(resight.__file__).parent, set()
    for path in source.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)]
        if any(call.attr in ("loads", "load") and ast.unparse(call.value) == "json" for call in calls):
            found.add(path.relative_to(source).as_posix())
    assert found == OWN
