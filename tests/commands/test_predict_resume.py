"""A job that is killed, stopped or finds a full disk goes on, and ends in the very bytes of one that was not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.commands.jobs import StopAt, stopped, write_photos, write_straight
from tests.inference import tiny

from resight.commands import batch
from resight.commands.batch import predict_to_file
from resight.commands.predict import predict
from resight.errors import Interrupted, ResightError, RunLocked, UsageError
from resight.inference import journal
from resight.runs import CARD, Run
from resight.runs.storage import exclusive


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def straight(run: Run, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_straight(run, photos, tmp_path_factory.mktemp("straight"))


def test_it_writes_what_predict_writes(run: Run, photos: Path, straight: bytes, tmp_path: Path) -> None:
    predict(run, photos).to_jsonl(tmp_path / "all.jsonl")
    assert straight == (tmp_path / "all.jsonl").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("after", [1, 9, 22])
def test_a_signal_keeps_what_was_answered(
    number: int, code: int, after: int, run: Run, photos: Path, straight: bytes, tmp_path: Path
) -> None:
    out, report = tmp_path / "my öut.jsonl", StopAt(after, number)
    out.write_text("an older one")
    with pytest.raises(Interrupted, match=f"{after} of 24 pictures are answered and kept") as caught:
        predict_to_file(run, photos, out, threads=2, batch=4, progress=report)
    assert caught.value.exit_code == code
    assert "resume=True" in str(caught.value)
    assert "received" in report.said
    assert out.read_text() == "an older one"
    written = predict_to_file(run, photos, out, threads=2, batch=4, resume=True, progress=(report := StopAt(-1, 0)))
    assert out.read_bytes() == straight
    assert (written.number, written.failed) == (24, 1)
    assert "24 pictures are answered" in report.said
    assert os.listdir(tmp_path) == [out.name]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-1], ""),
        (lambda data: data[:-40], ""),
        (lambda data: data + b'{"source": ', ""),
        (lambda data: data + b"\0" * 300, ""),
        (lambda data: data + data.splitlines(keepends=True)[-1], "line 14"),
        (lambda data: data.replace(b"2.png", b"2.\0ng", 1), "line 3"),
        (lambda data: b"".join(data.splitlines(keepends=True)[1:]), "line 1"),
        (lambda data: b"null\n" + data, "line 1"),
        (lambda data: b"\xff\n" + data, "line 1"),
    ],
)
def test_what_is_not_whole_is_answered_again(
    damage: Callable[[bytes], bytes], said: str, run: Run, photos: Path, straight: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    stopped(run, photos, out)
    answers = journal.folder_of(out) / journal.ANSWERS
    answers.write_bytes(damage(answers.read_bytes()))
    report = StopAt(-1, 0)
    predict_to_file(run, photos, out, threads=2, batch=4, resume=True, progress=report)
    assert out.read_bytes() == straight
    assert ("damaged" in report.said) == bool(said)
    assert said in report.said


def test_answers_beyond_the_last_picture_are_cut_off(run: Run, photos: Path, straight: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    stopped(run, photos, out)
    answers = journal.folder_of(out) / journal.ANSWERS
    answers.write_bytes(straight + straight.splitlines(keepends=True)[-1])
    predict_to_file(run, photos, out, threads=2, batch=4, resume=True)
    assert out.read_bytes() == straight


def test_another_question_is_refused_with_the_difference(
    run: Run, photos: Path, straight: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    stopped(run, photos, out)
    other = tiny.make_run(tmp_path / "other", fields={"recipe": "another"})
    files = sorted(photos.iterdir())
    wrong: list[tuple[Run, Any, dict[str, Any], list[str]]] = [
        (other, photos, {}, [f"{CARD} was ", "…, is "]),
        (run, photos, {"top": 2}, ["--top was 5, is 2"]),
        (run, photos, {"backend": "openvino"}, ["--backend was onnxruntime, is openvino"]),
        (run, photos, {"format": "parquet"}, ["--format was jsonl, is parquet"]),
        (run, [photos / "3.png", photos], {}, ["the same in another order, from number 1 on"]),
        (run, files[2:], {}, [f"2 gone, the first is {photos}/0.png"]),
        (run, [photos, __file__], {}, [f"1 new, the first is {__file__}"]),
    ]
    for asked, images, options, said in wrong:
        with pytest.raises(UsageError, match="was begun otherwise") as caught:
            predict_to_file(asked, images, out, threads=2, batch=4, resume=True, **options)
        for part in said:
            assert part in caught.value.message, caught.value.message
        assert str(journal.folder_of(out)) in str(caught.value)
    assert not out.exists()
    predict_to_file(run, photos, out, threads=2, batch=4, resume=True)
    assert out.read_bytes() == straight


def test_names_that_mean_something_else_in_another_folder(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``photos/1.png`` seen from elsewhere is another picture."""
    for name in ("a", "b"):
        tiny.write_folder(tmp_path / name / "photos", each=8)
    out = tmp_path / "out.jsonl"
    monkeypatch.chdir(tmp_path / "a")
    stopped(run, Path("photos"), out)
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(UsageError, match=r"the folder was .*/a, is .*/b"):
        predict_to_file(run, "photos", out, threads=2, batch=4, resume=True)


def test_other_conditions_are_said(run: Run, photos: Path, straight: bytes, tmp_path: Path) -> None:
    out, report = tmp_path / "out.jsonl", StopAt(-1, 0)
    stopped(run, photos, out)
    predict_to_file(run, photos, out, threads=1, batch=8, resume=True, progress=report)
    assert "note: --threads was 2, is 1; the last digit of an answer can differ" in report.said
    assert "note: --batch was 4, is 8" in report.said
    assert [json.loads(line)["label"] for line in out.read_bytes().splitlines()] == [
        json.loads(line)["label"] for line in straight.splitlines()
    ]


def test_a_finished_file_is_not_resumed_and_an_old_one_is_replaced_at_the_end(
    run: Run, photos: Path, straight: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    with pytest.raises(UsageError, match="nothing to resume"):
        predict_to_file(run, photos, out, resume=True)
    assert out.read_text() == "old"
    predict_to_file(run, photos, out, threads=2, batch=4)
    assert out.read_bytes() == straight
    out.unlink()
    predict_to_file(run, photos, out, threads=2, batch=4, resume=True)  # nothing was begun: it begins
    assert out.read_bytes() == straight


def test_a_link_is_followed(run: Run, photos: Path, straight: bytes, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    out = tmp_path / "out.jsonl"
    out.symlink_to(tmp_path / "real" / "out.jsonl")
    stopped(run, photos, out)
    predict_to_file(run, photos, out, threads=2, batch=4, resume=True)
    assert out.is_symlink()
    assert (tmp_path / "real" / "out.jsonl").read_bytes() == straight


def test_two_processes_do_not_write_one_file(run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    stopped(run, photos, out)
    with exclusive(journal.folder_of(out)), pytest.raises(RunLocked, match="another process is answering there"):
        predict_to_file(run, photos, out, resume=True)


def test_a_folder_of_somebody_else_is_left_alone(run: Run, photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "out.jsonl.unfinished" / "letter.txt"
    own.parent.mkdir()
    own.write_text("dear")
    with pytest.raises(UsageError, match=r"letter\.txt, which is of no unfinished job"):
        predict_to_file(run, photos, tmp_path / "out.jsonl")
    assert os.listdir(own.parent) == ["letter.txt"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 99, "pictures": 3}'])
def test_a_damaged_job_is_refused(text: str, run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    stopped(run, photos, out)
    (journal.folder_of(out) / journal.JOB).write_text(text)
    for resume in (False, True):
        with pytest.raises(UsageError, match="cannot be used"):
            predict_to_file(run, photos, out, resume=resume)


def test_answers_that_somebody_removed(run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    stopped(run, photos, out)
    (journal.folder_of(out) / journal.ANSWERS).unlink()
    with pytest.raises(UsageError, match="somebody removed it"):
        predict_to_file(run, photos, out, threads=2, batch=4, resume=True)


def test_a_failure_of_the_network_keeps_what_was_answered(run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(ResightError, match="broken"):
        predict_to_file(run, photos, out, threads=2, batch=4, progress=StopAt(9, ResightError("broken")))
    assert journal.answered(journal.folder_of(out)) == 9


def test_a_signal_while_parquet_is_made(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    predict_to_file(run, photos, tmp_path / "straight.parquet", threads=2, batch=4)
    real = batch.write_parquet

    def write(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        real(*arguments)

    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(batch, "write_parquet", write)
        with pytest.raises(Interrupted, match="24 of 24 pictures are answered and kept"):
            predict_to_file(run, photos, out, threads=2, batch=4)
    assert not out.exists()
    predict_to_file(run, photos, out, threads=2, batch=4, resume=True)
    assert out.read_bytes() == (tmp_path / "straight.parquet").read_bytes()


def test_where_nothing_was_answered_nothing_is_left(run: Run, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="top"):
        predict_to_file(run, photos, tmp_path / "out.jsonl", top=0)
    with pytest.raises(UsageError, match="in memory"):
        predict_to_file(run, [b"encoded"], tmp_path / "out.jsonl")  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"expected the format jsonl or parquet"):
        predict_to_file(run, photos, tmp_path / "out.csv")
    assert os.listdir(tmp_path) == []
