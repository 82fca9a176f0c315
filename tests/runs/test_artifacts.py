"""Artefacts: a card beside the Run, put into place whole, and refused where they are not what they say."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.inference import tiny

from resight.errors import RunError, RunLocked, StorageError, UsageError
from resight.inference import Predictor
from resight.runs import ONNX, ArtifactCard, Run, artifact_names, drafted, open_artifact, publish


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny.make_run(tmp_path / "run")


def card_of(run: Run, name: str = "copy", **changes: Any) -> ArtifactCard:
    card = ArtifactCard.of(run, name, target="onnx", precision="fp32", backend="onnxruntime", graph=ONNX)
    return replace(card, **changes)


def export(run: Run, *, name: str = "copy", data: bytes | None = None, **changes: Any) -> None:
    with drafted(run, name) as folder:
        (folder / ONNX).write_bytes(run.read(ONNX) if data is None else data)
        publish(run, folder, card_of(run, name, **changes))


def test_what_was_published_is_opened_again(run: Run) -> None:
    export(run)
    found = open_artifact(run, "copy")
    found.verify()
    assert found.card.classes == tiny.CLASSES
    assert found.card.made_from == run.card.files[ONNX]
    assert set(found.card.files) == {ONNX}
    assert found.bytes == len(run.read(ONNX))
    assert artifact_names(run) == ["copy"]
    assert sorted(p.name for p in (run.path / "artifacts").iterdir()) == [".lock-copy", "copy"]  # no drafts are left
    Run.open(run.path)  # the sealed Run is as it was


def test_a_predictor_answers_with_its_temperature(run: Run) -> None:
    hot = tiny.graph(temperature=4.0).SerializeToString()
    export(run, data=hot, temperature=4.0)
    pixels = np.stack([tiny.picture("red", side=tiny.SIZE)])
    plain, own = Predictor(run), Predictor(run, artifact="copy")
    assert own.card.temperature == 4.0
    assert own.run_pixels(pixels).probabilities.max() < plain.run_pixels(pixels).probabilities.max()
    export(run, name="wrong", data=hot, temperature=2.0)
    with pytest.raises(RunError, match="temperature"):  # the graph does not compute with its card's
        Predictor(run, artifact="wrong")


def test_another_backend_than_its_own_is_refused(run: Run) -> None:
    export(run)
    assert Predictor(run, artifact="copy", backend="onnxruntime").choice.name == "onnxruntime"
    with pytest.raises(UsageError, match="not for openvino"):
        Predictor(run, artifact="copy", backend="openvino")
    export(run, name="elsewhere", backend=None)
    with pytest.raises(UsageError, match="nothing here answers"):
        Predictor(run, artifact="elsewhere")


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", ".hidden", "x" * 65, "nul\0"])
def test_impossible_names(run: Run, name: str) -> None:
    with pytest.raises(UsageError):
        open_artifact(run, name)
    with pytest.raises(UsageError), drafted(run, name):
        pass


def test_one_that_is_not_there_is_refused_with_those_that_are(run: Run) -> None:
    export(run)
    with pytest.raises(UsageError, match="it has: copy"):
        open_artifact(run, "other")


def test_one_of_another_run_is_refused(run: Run, tmp_path: Path) -> None:
    other = tiny.make_run(tmp_path / "other", model=tiny.graph(temperature=1.0).SerializeToString(),
                          fields={"temperature": 1.0})  # fmt: skip
    export(other)
    (run.path / "artifacts").mkdir()
    os.rename(other.path / "artifacts" / "copy", run.path / "artifacts" / "copy")
    with pytest.raises(RunError, match="another Run"):
        open_artifact(run, "copy")


def test_a_changed_file_is_refused(run: Run) -> None:
    export(run)
    found = open_artifact(run, "copy")
    found.graph.write_bytes(found.graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(RunError, match="changed"):
        found.verify()
    with pytest.raises(RunError, match="changed"):
        Predictor(run, artifact="copy")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"extra": 1}, "unknown fields"),
        ({"classes": None}, "misspells"),
        ({"files": {}}, "names files"),
        ({"files": {"../../../etc/passwd": "0" * 64, "model.onnx": "0" * 64}}, "names files"),
        ({"files": {"/etc/passwd": "0" * 64, "model.onnx": "0" * 64}}, "names files"),
        ({"graph": "../../model.onnx"}, "names files"),
        ({"unknown": {"score": "knn-whitened", "threshold": "low", "k": 5}}, "unknown"),
        ({"files": [1]}, "misspells"),
        ({"parity": [1]}, "misspells"),
        ({"parity": {"max_abs": "abc"}}, "misspells"),
        ({"parity": {"max_abs": math.nan}}, "cannot be read"),
        ({"metrics": "good"}, "misspells"),
        ({"classes": ["other", "names", "here"]}, "differs from the Run in: classes"),
        ({"name": "another"}, "under another name"),
    ],
)
def test_a_hostile_card_is_refused(run: Run, changes: dict[str, Any], words: str) -> None:
    export(run)
    path = run.path / "artifacts" / "copy" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(RunError, match=words):
        open_artifact(run, "copy")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 5000, b"\xff"])
def test_what_is_no_card_is_refused(run: Run, content: bytes) -> None:
    export(run)
    (run.path / "artifacts" / "copy" / "card.json").write_bytes(content)
    with pytest.raises(RunError):
        open_artifact(run, "copy")


HOLDER = """
import sys
from pathlib import Path
from resight.runs import Run, drafted
with drafted(Run.open(sys.argv[1]), "copy") as folder:
    (folder / "half").write_bytes(b"half")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_export_of_a_name_at_a_time_and_a_killed_one_blocks_nothing(run: Run) -> None:
    command = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunLocked, match="another process is exporting copy there"):
            export(run)
        assert (run.path / "artifacts" / ".draft-copy" / "half").exists()  # the other one's draft is its own
        export(run, name="elsewhere")  # another name is another artefact
        other.kill()
    export(run)
    assert set(open_artifact(run, "copy").card.files) == {ONNX}  # nothing of the half one
    assert artifact_names(run) == ["copy", "elsewhere"]
    assert not list((run.path / "artifacts").glob(".draft*"))


@pytest.mark.parametrize("name", [".lock-copy", ".draft-copy"])
def test_a_link_in_the_way_leads_nowhere(run: Run, tmp_path: Path, name: str) -> None:
    (run.path / "artifacts").mkdir()
    (run.path / "artifacts" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="in the way"):
        export(run)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("fails", [0, 1])
def test_a_crash_leaves_the_earlier_or_the_new_one(run: Run, fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving the earlier one away and putting the new one into its place: each may be the last that happens."""
    export(run, notes=("first",))
    replace_, count = os.replace, 0

    def crash(a: Any, b: Any) -> None:
        nonlocal count
        if Path(a).is_dir():
            count += 1
            if count > fails:
                raise OSError(28, "No space left on device")
        replace_(a, b)

    monkeypatch.setattr("resight.runs.artifacts.os.replace", crash)
    with pytest.raises(StorageError):
        export(run, notes=("second",))
    monkeypatch.undo()
    assert open_artifact(run, "copy").card.notes == ("first",)
    open_artifact(run, "copy").verify()
    export(run, notes=("third",))
    assert open_artifact(run, "copy").card.notes == ("third",)
    assert sorted(p.name for p in (run.path / "artifacts").iterdir()) == [".lock-copy", "copy"]


@pytest.mark.parametrize("what", ["a link", "a file", "a folder"])
def test_what_is_no_artefact_is_not_replaced(run: Run, tmp_path: Path, what: str) -> None:
    """Where an artefact would go lies something else: it is left alone, and said."""
    place, own = run.path / "artifacts" / "copy", tmp_path / "own"
    place.parent.mkdir()
    own.mkdir()
    (own / "file").write_text("kept")
    if what == "a link":
        place.symlink_to(own)
    elif what == "a file":
        place.write_text("kept")
    else:
        own.rename(place)
    with pytest.raises(UsageError, match="in the way"):
        export(run)
    kept = place if what == "a file" else place / "file"
    assert kept.read_text() == "kept"


def test_what_a_kill_left_of_a_former_artefact_is_not_in_the_way(run: Run) -> None:
    rest = run.path / "artifacts" / ".previous-copy"
    rest.mkdir(parents=True)
    (rest / "model.onnx").write_text("the card was removed first")
    export(run)
    assert not rest.exists()


def test_a_folder_of_artefacts_elsewhere_is_not_written_to(run: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run.path / "artifacts").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="in the way"):
        export(run)
    assert not any(elsewhere.iterdir())


@pytest.mark.parametrize("backend", ["auto", "torch", "openvino"])
def test_a_backend_that_cannot_read_the_graph_is_refused(run: Run, backend: str) -> None:
    export(run, backend=backend)
    with pytest.raises(RunError, match="cannot read it"):
        Predictor(run, artifact="copy")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name here")
def test_a_pipe_instead_of_a_graph_does_not_hang(run: Run) -> None:
    export(run)
    graph = open_artifact(run, "copy").graph
    graph.unlink()
    os.mkfifo(graph)
    with pytest.raises(RunError, match="regular"):
        Predictor(run, artifact="copy")
