"""The command line: exit codes, streams, help, and what may be imported when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.inference.tiny import make_run, write_folder, write_picture
from typer.testing import CliRunner

from resight import __version__
from resight.cli import app, main
from resight.errors import UsageError

COMMANDS = (
    *("doctor", "advise", "train", "crossval", "resume", "tune", "lr-find", "import", "preview", "eval", "predict"),
    *("embed", "explain", "export", "adapt", "bench", "serve", "models", "cache", "demo"),
)


def resight(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The real program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "resight.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_version_and_help_import_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from resight.cli import app; r = CliRunner();"
        f"outs = [r.invoke(app, [c, '--help']) for c in {COMMANDS!r}] + [r.invoke(app, ['--version'])];"
        "assert all(o.exit_code == 0 for o in outs); print(outs[-1].output.strip());"
        "heavy = {'torch', 'numpy', 'onnxruntime', 'openvino', 'PIL', 'accelerate', 'sklearn'} & set(sys.modules);"
        "print(sorted(heavy))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [f"resight {__version__}", "[]"]


def test_without_arguments_it_shows_help() -> None:
    result = CliRunner().invoke(app, [])
    assert "Usage" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "nowhere"], "nowhere"),
        (["train", "data", "--epochs", "1", "--budget", "5m"], "--epochs and --budget"),
        (["train", "data", "--budget", "soon"], "soon"),
        (["train", "data", "--batch", "many"], "--batch"),
        (["train", "data", "--model", "resnet19"], "resnet18"),
        (["train", "data", "--recipe", "slow"], "recipes: quick"),
        (["train", "data", "--set", "optimizer.rate=1"], "optimizer.rate"),
        (["train", "data", "--set", "optimizer.lr"], "SECTION.FIELD=VALUE"),
        (["train", "data", "--lr", "-1"], "optimizer.lr"),
        (["train", "data", "--device", "cuda", "--epochs", "1"], "cuda"),
        (["train", "data", "--image-size", "8"], "28 px"),
        (["train", "data", "--balance", "smote"], "one of: none, weights"),
        (["train", "data", "--balance", "focal", "--set", "loss=bce"], "contradict each other"),
        (["train", "data", "--balance", "logit", "--set", "balance.sampling=sqrt"], "twice"),
        (["train", "data", "--teacher", "data"], "the teacher cannot be used"),
        (["train", "data", "--set", "distill.weight=0.9"], "distill.teacher"),
        (["resume", "data"], "not a Run"),
        (["tune", "data", "--space", "lr,speed"], "lr, decay, augment, mixup, size"),
        (["tune", "data", "--space", "size", "--device", "cpu"], "photos only"),
        (["tune", "data", "--objective", "fame"], "accuracy, loss"),
        (["tune", "data", "--set", "budget_seconds=60"], "--epochs"),
        (["tune", "data", "--out", "run"], "run holds a Run"),
        (["lr-find", "data", "--out", "lr.txt"], ".png or .svg"),
        (["lr-find", "data", "--set", "schedule.warmup=0.1"], "no effect"),
        (["lr-find", "data", "--low", "1", "--high", "0.1", "--device", "cpu"], "above --low"),
        (["predict", "data", "sky.png"], "not a Run"),
        (["predict", "run", "nothing.jpg"], "nothing.jpg"),
        (["predict", "run", "http://example.org/a.jpg"], "http://example.org/a.jpg"),
        (["predict", "run", "sky.png", "--format", "xml"], "xml"),
        (["predict", "run", "sky.png", "--json", "--format", "csv"], "contradict"),
        (["predict", "run", "sky.png", "--backend", "abacus"], "abacus"),
        (["eval", "run", "data", "--part", "some"], "some"),
        (["eval", "run", "data", "--backend", "abacus"], "abacus"),
        (["bench", "data"], "not a Run"),
        (["import", "weights.pth"], "weights.pth"),
        (["import", "resnet19.tv_in1k"], "resnet19"),
    ],
)
def test_bad_usage_is_exit_code_2_and_names_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    make_run(tmp_path / "run")
    write_folder(tmp_path / "data")
    write_picture(tmp_path / "sky.png", "blue")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["resight", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    output = capsys.readouterr()
    assert stopped.value.code == 2, output.err
    assert said in output.err
    assert output.out == ""
    assert not (tmp_path / "runs").exists(), "nothing may be written before the arguments are checked"


def test_data_goes_to_stdout_and_a_bad_picture_is_exit_code_1(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_picture(tmp_path / "pictures" / "1.png", "red")
    (tmp_path / "pictures" / "2.png").write_bytes(b"no picture")
    write_picture(tmp_path / "pictures" / "10.png", "green")
    result = resight("predict", str(run.path), "pictures", "--format", "jsonl", cwd=tmp_path)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == ["red", None, "green"]
    assert answers[1]["error"]
    assert result.returncode == 1
    assert "1 of 3 pictures" in result.stderr


def test_json_is_the_same_as_format_json(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    picture = write_picture(tmp_path / "sky.png", "blue")
    first = resight("predict", str(run.path), str(picture), "--json")
    second = resight("predict", str(run.path), str(picture), "--format", "json")
    assert first.stdout == second.stdout
    assert json.loads(first.stdout)[0]["label"] == "blue"


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for number in range(30):
        write_picture(tmp_path / "many" / f"{number}.png", "blue")
    command = f"{sys.executable} -m resight.cli predict {run.path} {tmp_path / 'many'} --batch 1 | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stdout.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


def test_shell_completion_is_offered() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert "--install-completion" in result.output


def test_models_lists_the_family() -> None:
    result = resight("models", "resnet5*", "--json")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["resnet50"]["parameters"] == 25_557_032
    assert rows["resnet56"]["image_size"] == 32
    assert not any(name.endswith("_plain") for name in rows)
    plain = resight("models", "resnet50_plain", "--plain", "--json")
    assert [row["name"] for row in json.loads(plain.stdout)] == ["resnet50_plain"]


def test_the_python_names() -> None:
    import resight

    for name in resight.__all__:
        assert getattr(resight, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = resight.no_such_name
    assert issubclass(UsageError, resight.ResightError)


def test_importing_resight_imports_nothing() -> None:
    code = "import sys, resight; print(sorted({'torch', 'numpy', 'PIL', 'onnxruntime'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_another_encoding_does_not_make_an_answer_fail(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    data = write_folder(tmp_path / "data")
    command = [sys.executable, "-m", "resight.cli", "eval", str(run.path), str(data)]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    result = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert b"accuracy" in result.stdout


def test_json_escapes_what_could_harm_a_terminal(tmp_path: Path) -> None:
    hostile = ("a\u202eb", "\x1b[31mred", os.fsdecode(b"c\xff"))
    run = make_run(tmp_path / "run", classes=hostile)
    data = write_folder(tmp_path / "data", hostile)
    result = subprocess.run(
        [sys.executable, "-m", "resight.cli", "eval", str(run.path), str(data), "--json"],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert json.loads(result.stdout.decode("utf-8"))["evaluation"]["classes"] == list(hostile)
    assert b"\x1b" not in result.stdout
    assert "\u202e" not in result.stdout.decode("utf-8")


def test_errors_show_no_escape_sequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["resight", "predict", str(tmp_path / "\x1b[2J"), "x.png"])
    with pytest.raises(SystemExit):
        main()
    assert "\x1b" not in capsys.readouterr().err


def test_eval_takes_what_training_would_refuse(tmp_path: Path) -> None:
    """A test part alone, and a single class."""
    run = make_run(tmp_path / "run")
    write_folder(tmp_path / "data" / "test")
    only_test = resight("eval", str(run.path), str(tmp_path / "data"), "--json")
    assert only_test.returncode == 0, only_test.stderr
    write_folder(tmp_path / "one", ["red"], colours=["red"])
    one_class = resight("eval", str(run.path), str(tmp_path / "one"), "--json")
    assert json.loads(one_class.stdout)["evaluation"]["metrics"]["accuracy"]["value"] == 1.0


def test_json_is_utf8_in_every_encoding(tmp_path: Path) -> None:
    names = ("caf\u00e9", "\U0001f408", "del\x7f")
    run = make_run(tmp_path / "run", classes=names)
    data = write_folder(tmp_path / "data", names)
    command = [sys.executable, "-m", "resight.cli", "eval", str(run.path), str(data), "--json"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    result = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    assert json.loads(result.stdout.decode("utf-8"))["evaluation"]["classes"] == list(names)
    assert b"\x7f" not in result.stdout
