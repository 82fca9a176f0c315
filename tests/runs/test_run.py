"""The Run: made once, sealed once, and refused when anything in it is not what was sealed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import RunError, UsageError
from resight.images import Geometry
from resight.runs import (
    CARD,
    CHECKPOINTS,
    CONFIG,
    HISTORY,
    ONNX,
    PREDICTIONS,
    SPLIT,
    WEIGHTS,
    Architecture,
    Run,
    RunCard,
)

FILES = (CONFIG, SPLIT, WEIGHTS, ONNX, PREDICTIONS, HISTORY)


def card(**changes: Any) -> RunCard:
    plain = RunCard(
        architecture=Architecture("resnet18", {"stem": "cifar"}, 11_000_000),
        classes=("cat", "dog"),
        channels=3,
        geometry=Geometry("crop", 32, 36),
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
    )
    return replace(plain, **changes)


@pytest.fixture
def sealed(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run", card())
    for number, name in enumerate(FILES):
        (run.path / name).write_bytes(bytes([number]) * 100)
    run.seal()
    return run


def edit(run: Path, **changes: Any) -> None:
    plain = json.loads((run / CARD).read_text())
    (run / CARD).write_text(json.dumps(plain | changes))


def test_its_life(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "deep" / "er" / "run", card())
    assert run.card.status == "training"
    with pytest.raises(RunError, match="status is 'training'") as unfinished:
        Run.open(run.path)
    assert f"resight resume {run.path}" in str(unfinished.value)
    assert Run.open(run.path, sealed=False).card == run.card
    with pytest.raises(RunError, match=WEIGHTS):
        run.seal()
    (run.path / WEIGHTS).write_bytes(b"w")
    with pytest.raises(RunError, match=ONNX):
        run.seal()
    (run.path / ONNX).write_bytes(b"o")
    run.set_status("trained")
    assert Run.open(run.path, sealed=False).card.status == "trained"
    run.seal()
    assert set(Run.open(run.path).card.files) == {WEIGHTS, ONNX}


def test_a_directory_takes_one_run(sealed: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already holds a Run"):
        Run.create(sealed.path, card())
    (tmp_path / "old" / CHECKPOINTS).mkdir(parents=True)
    with pytest.raises(UsageError, match="is not empty"):
        Run.create(tmp_path / "old", card())


def test_a_sealed_run_never_changes(sealed: Run) -> None:
    before = (sealed.path / CARD).read_bytes()
    for change in (lambda: sealed.update(temperature=2.0), lambda: sealed.set_status("training"), sealed.seal):
        with pytest.raises(RunError, match="sealed and cannot be changed"):
            change()
    assert (sealed.path / CARD).read_bytes() == before


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0, 50, 99])
def test_a_changed_byte_is_refused_by_name(name: str, position: int, sealed: Run) -> None:
    path = sealed.path / name
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=name):
        Run.open(sealed.path)
    assert Run.open(sealed.path, verify=False).path == sealed.path


@pytest.mark.parametrize("name", FILES)
def test_only_the_files_that_are_used_need_be_verified(name: str, sealed: Run) -> None:
    (sealed.path / name).write_bytes(b"changed")
    opened = Run.open(sealed.path, verify=False)
    opened.verify(*[other for other in FILES if other != name])
    for use in (opened.verify, opened.read):
        with pytest.raises(RunError, match=f"{name} was changed"):
            use(name)


def test_what_is_read_is_what_was_hashed(sealed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is opened once: nobody can exchange it between the check and the use."""
    opened, times = Run.open(sealed.path, verify=False), []
    read = Path.read_bytes

    def exchange(path: Path) -> bytes:
        data = read(path)
        times.append(path.name)
        path.write_bytes(b"exchanged")
        return data

    monkeypatch.setattr(Path, "read_bytes", exchange)
    assert [opened.read(name) for name in FILES] == [bytes([number]) * 100 for number in range(len(FILES))]
    assert times == list(FILES)
    with pytest.raises(RunError, match="was changed"):
        opened.read(CONFIG)


def test_a_file_that_was_put_into_a_sealed_run_is_not_used(sealed: Run) -> None:
    edit(sealed.path, files={name: sha for name, sha in sealed.card.files.items() if name != CONFIG})
    opened = Run.open(sealed.path)
    assert (opened.records(CONFIG), opened.records(SPLIT)) == (False, True)
    for use in (opened.verify, opened.read):
        with pytest.raises(RunError, match=rf"records no hash of {CONFIG}"):
            use(CONFIG)


def test_an_unfinished_run_is_read_as_it_is(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", card())
    assert not run.records(CONFIG)
    with pytest.raises(RunError, match=f"has no {CONFIG}"):
        run.read(CONFIG)
    (run.path / CONFIG).write_bytes(b"{}")
    assert run.records(CONFIG)
    assert run.read(CONFIG) == b"{}"


@pytest.mark.parametrize("files", [{}, {WEIGHTS: "0" * 64}, {WEIGHTS: "0", ONNX: "0", "../x": "0"}])
def test_a_card_without_sound_hashes_is_refused_even_unverified(files: dict[str, str], sealed: Run) -> None:
    edit(sealed.path, files=files)
    with pytest.raises(RunError, match=r"records no hash|outside the Run"):
        Run.open(sealed.path, verify=False)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(name: str, sealed: Run) -> None:
    (sealed.path / name).unlink()
    with pytest.raises(RunError, match=name):
        Run.open(sealed.path)


def test_a_sealed_run_may_be_moved_and_have_company(sealed: Run, tmp_path: Path) -> None:
    (sealed.path / "notes.txt").write_text("mine")
    moved = tmp_path / "ünï code [1]"
    shutil.move(sealed.path, moved)
    assert Run.open(str(moved)).card == sealed.card


def test_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(RunError, match="is not a Run"):
            Run.open(path)


# ── the card ───────────────────────────────────────────────────────────────────────────────────────────────────

CARDS: dict[str, tuple[dict[str, Any], str]] = {
    "future schema": ({"schema": 2}, "schema 2, this version reads schema 1"),
    "odd schema": ({"schema": "x"}, "schema 'x'"),
    "unknown field": ({"colour": "red"}, "colour"),
    "no hashes": ({"files": {}}, "records no hash"),
    "a hash of the wrong type": ({"files": {WEIGHTS: 5, ONNX: 6}}, "files"),
    "a list of files": ({"files": [WEIGHTS, ONNX]}, "files"),
    "no mean": ({"mean": 5}, "mean|iterable"),
    "no geometry": ({"geometry": {}}, "geometry|kind|size|field"),
    "an odd geometry": ({"geometry": Geometry("crop", 32, 36).to_dict() | {"kind": "spiral"}}, "spiral"),
    "no class": ({"classes": []}, "classes"),
    "numbers as classes": ({"classes": [1, 2]}, "classes"),
    "seventeen channels": ({"channels": 17}, "channels"),
    "a mean too many": ({"mean": [0.1] * 4}, "mean"),
    "no deviation": ({"std": [0.0, 0.1, 0.1]}, "std"),
    "an odd status": ({"status": "half"}, "status"),
    "no temperature": ({"temperature": 0}, "temperature"),
    "no architecture": ({"architecture": "resnet18"}, "field"),
    "no classes": ({"classes": None}, "field"),
}


@pytest.mark.parametrize("kind", CARDS)
def test_odd_cards_are_refused(kind: str, sealed: Run) -> None:
    changes, pattern = CARDS[kind]
    edit(sealed.path, **changes)
    with pytest.raises(RunError, match=pattern):
        Run.open(sealed.path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_card_is_refused(data: bytes, sealed: Run) -> None:
    (sealed.path / CARD).write_bytes(data)
    with pytest.raises(RunError, match=r"run\.json"):
        Run.open(sealed.path)


@pytest.mark.parametrize("field", ["architecture", "classes", "channels", "geometry", "mean", "std"])
def test_a_card_that_lacks_a_field_says_which(field: str, sealed: Run) -> None:
    plain = json.loads((sealed.path / CARD).read_text())
    del plain[field]
    (sealed.path / CARD).write_text(json.dumps(plain))
    with pytest.raises(RunError, match=field):
        Run.open(sealed.path)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "sub/file", "..", "checkpoints/../x"])
def test_a_card_never_makes_other_files_be_read(name: str, sealed: Run) -> None:
    (sealed.path.parent / "outside").write_text("secret")
    edit(sealed.path, files=sealed.card.files | {name: "0" * 64})
    with pytest.raises(RunError) as refused:
        Run.open(sealed.path)
    assert "outside the Run" in str(refused.value) or "has no" in str(refused.value)
    assert "sha256" not in str(refused.value)  # nothing was hashed


HOSTILE = (
    "<script>alert(1)</script>",
    'quote " and \\ back',
    "new\nline\r\n",
    "\u202egnp.exe",
    "=cmd|' /C calc'!A0",
    "emoji 🦉",
    "e\u0301 combining",
    "nul \x00 byte",
    " space ",
    "\udcff undecodable",
)


def test_hostile_class_names_survive(tmp_path: Path) -> None:
    names = HOSTILE[:-1]
    Run.create(tmp_path / "run", card(classes=names))
    assert Run.open(tmp_path / "run", sealed=False).classes == names


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5, unique=True))
@settings(deadline=None)
def test_any_class_names_survive(names: list[str]) -> None:
    assert RunCard.from_json(card(classes=tuple(names)).to_json(), Path("run.json")).classes == tuple(names)


def test_names_that_no_encoding_has_survive(tmp_path: Path) -> None:
    """A folder whose name is not valid UTF-8 arrives in Python with surrogates."""
    Run.create(tmp_path / "run", card(classes=HOSTILE[-1:]))
    assert Run.open(tmp_path / "run", sealed=False).classes == HOSTILE[-1:]


def test_the_card_survives_exactly(tmp_path: Path) -> None:
    full = card(
        temperature=1.234567890123,
        calibrated=True,
        recipe="quick",
        seed=2**32 - 1,
        threads=3,
        data={"counts": {"train": 5}, "skipped": [["a.png", "broken"]]},
        environment={"torch": "2"},
        created="2025-01-01T00:00:00+00:00",
    )
    assert RunCard.from_json(full.to_json(), Path("run.json")) == full
    with pytest.raises(ValueError, match="JSON"):
        card(temperature=float("nan")).to_json()


def test_metrics_are_of_the_test_part_or_else_validation(tmp_path: Path) -> None:
    estimate = {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}}
    both = Run(tmp_path, card(metrics={"val": {"metrics": {}}, "test": {"metrics": estimate}}))
    assert (both.metrics.part, both.metrics.top1) == ("test", 0.9)
    assert both.metrics.interval("accuracy") == (0.8, 0.95)
    only_val = Run(tmp_path, card(metrics={"val": {"metrics": estimate}}))
    assert (only_val.metrics.part, only_val.metrics["accuracy"]) == ("val", 0.9)
    with pytest.raises(RunError, match="no 'accuracy'"):
        _ = Run(tmp_path, card()).metrics.top1
    with pytest.raises(RunError, match="no 'f2'"):
        only_val.metrics.interval("f2")
