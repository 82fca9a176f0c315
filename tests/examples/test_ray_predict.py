"""The example on a real, local Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.inference import tiny

from resight.commands.predict import predict

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_predict.py"


def test_the_example_answers_as_predict_does(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'resight[ray]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    run = tiny.make_run(tmp_path / "run")
    data = tiny.write_folder(tmp_path / "photos")
    (data / "red" / "bad.png").write_bytes(b"no picture")
    command = [sys.executable, str(EXAMPLE), str(run.path), str(data), str(tmp_path / "answers"), "--actors", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stderr
    rows = parquet.read_table(tmp_path / "answers").to_pylist()
    found = {row["path"]: (row["label"], row["error"]) for row in rows}
    assert found == {str(Path(p.source).resolve()): (p.label, p.error) for p in predict(run, data)}
    assert len(rows) == len(found) == 13


def test_the_example_only_uses_what_there_is() -> None:
    """Where Ray is not installed: the file compiles, and its names of this project exist."""
    text = EXAMPLE.read_text("utf-8")
    compile(text, str(EXAMPLE), "exec")
    import resight
    from resight.samples import find_images

    assert callable(find_images)
    assert "BatchPredictor" in resight.__all__
    assert "resight.BatchPredictor" in text
