"""``resight embed``: what is written and what is alike, against the graph's own embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.inference import tiny
from typer.testing import CliRunner

from resight.cli import app
from resight.commands.embed import Similar, embed, similar, table
from resight.errors import ImageError, RunError, UsageError
from resight.inference import Predictor
from resight.runs import Run

NAMES = ["=cmd.png", "two\nlines.png", "right\u202eto left.png", "undecodable\udcff.png", "猫.png"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny.make_known_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for k, colour in enumerate(tiny.CLASSES * 2):
        tiny.write_picture(tmp_path / "photos" / f"{k}.png", colour, k)
    return tmp_path / "photos"


def test_the_file_holds_embeddings_names_and_labels_and_no_pickle(run: Run, photos: Path, tmp_path: Path) -> None:
    embed(run, photos).save(tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert found["sources"].tolist() == [str(photos / f"{k}.png") for k in range(6)]
        assert found["labels"].tolist() == [*tiny.CLASSES] * 2
        assert found["unknown"].tolist() == [False] * 6
        geometry = run.card.geometry
        squares = [geometry.apply(tiny.picture(colour, k)) for k, colour in enumerate(tiny.CLASSES * 2)]
        expected = Predictor(run).run_pixels(np.stack(squares)).embedding
        assert found["embeddings"].dtype == np.float32
        np.testing.assert_allclose(found["embeddings"], expected, atol=1e-6)


def test_names_come_back_exactly(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in NAMES:
        tiny.write_picture(folder / name, "red")
    embed(run, folder).save(tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert sorted(found["sources"].tolist()) == sorted(str(folder / name) for name in NAMES)


def test_a_run_that_cannot_tell_writes_no_unknown(photos: Path, tmp_path: Path) -> None:
    found = embed(tiny.make_run(tmp_path / "plain"), photos)
    assert found.unknown is None
    found.save(tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as arrays:
        assert sorted(arrays.files) == ["embeddings", "labels", "sources"]


def test_where_it_cannot_write_nothing_is_written(run: Run, photos: Path, tmp_path: Path) -> None:
    found = embed(run, photos / "0.png")
    with pytest.raises(UsageError, match=r"does not end in \.npz"):
        found.save(tmp_path / "out.txt")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UsageError, match="not a regular file"):
        found.save(tmp_path / "folder.npz")
    with pytest.raises(UsageError, match="no folder"):
        found.save(tmp_path / "missing" / "out.npz")


def test_the_nearest_of_the_given_pictures(run: Run, photos: Path) -> None:
    """Against all cosines, computed one by one; the picture itself is left out."""
    result = similar(run, photos / "1.png", [photos], top=3)
    found = result.found
    assert result.errors == ()
    assert result.choice.name == "onnxruntime"
    rows = embed(run, photos).embeddings.astype(np.float64)
    cosines = {
        str(photos / f"{k}.png"): rows[1] @ row / np.linalg.norm(rows[1]) / np.linalg.norm(row)
        for k, row in enumerate(rows)
        if k != 1
    }
    best = sorted(cosines, key=lambda name: -cosines[name])[:3]
    assert [item.source for item in found] == best
    assert [item.cosine for item in found] == pytest.approx([cosines[name] for name in best], abs=1e-6)
    assert (found[0].source, found[0].label) == (str(photos / "4.png"), "green")


def test_the_nearest_of_the_training_pictures(run: Run) -> None:
    found = similar(run, tiny.picture("red", 77), top=4).found
    assert [item.label for item in found] == ["red"] * 4
    assert all(item.source.startswith("red/") for item in found)
    assert [item.cosine for item in found] == sorted((item.cosine for item in found), reverse=True)
    assert found[0].cosine > 0.99
    assert len(similar(run, tiny.picture("red"), top=1000).found) == 60


def test_what_cannot_be_compared_is_refused(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        similar(run, tmp_path / "bad.png")
    with pytest.raises(UsageError, match="6 pictures; expected one"):
        similar(run, str(photos))
    with pytest.raises(UsageError, match="top"):
        similar(run, photos / "0.png", top=0)
    with pytest.raises(RunError, match=r"has no reference\.safetensors"):
        similar(tiny.make_run(tmp_path / "plain"), photos / "0.png")
    with pytest.raises(UsageError, match="the only picture given"):
        similar(run, photos / "0.png", photos / "0.png")
    with pytest.raises(UsageError, match="none of 1 pictures"):
        embed(run, tmp_path / "bad.png")


def test_the_table_shows_no_escape_sequences() -> None:
    lines = table([Similar("a\x1b[31m.png", "x", 0.5), Similar("b\u202e.png", "longer", -0.25)])
    assert lines == ["a\\x1b[31m.png  x        0.500", "b\\u202e.png    longer  -0.250"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["PHOTOS"], "either --out FILE or --similar-to IMAGE"),
        (["PHOTOS", "--out", "x.npz", "--similar-to", "y.png"], "either --out FILE or --similar-to IMAGE"),
        (["--out", "x.npz"], "no pictures were given"),
        (["PHOTOS", "--out", "x.npz", "--top", "3"], "belong to --similar-to"),
        (["PHOTOS", "--out", "x.npz", "--json"], "belong to --similar-to"),
        (["PHOTOS", "--out", "x.txt"], "does not end in .npz"),
    ],
)
def test_options_that_contradict_each_other(arguments: list[str], said: str, run: Run, photos: Path) -> None:
    line = [str(photos) if argument == "PHOTOS" else argument for argument in arguments]
    result = CliRunner().invoke(app, ["embed", str(run.path), *line])
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)


def test_the_command_line(run: Run, photos: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["embed", str(run.path), "--similar-to", str(photos / "0.png"), "--json"])
    assert result.exit_code == 0
    assert [item["label"] for item in json.loads(result.stdout)] == ["blue"] * 5
    (photos / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "out.npz"
    result = CliRunner().invoke(app, ["embed", str(run.path), str(photos), "--out", str(out)])
    assert result.exit_code == 1
    assert "bad.png" in result.stderr
    assert "6 embeddings of 4 numbers" in result.stderr
    with np.load(out) as arrays:
        assert arrays["embeddings"].shape == (6, 4)


def test_parquet_says_what_the_numpy_file_says(run: Run, photos: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    tiny.write_picture(photos / "\u202e=1.png", "red")
    found = embed(run, photos)
    found.save(tmp_path / "out.npz")
    found.save(tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[4]"
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), arrays["embeddings"])
        assert table["source"].to_pylist() == arrays["sources"].tolist()
        assert table["label"].to_pylist() == arrays["labels"].tolist()
        assert table["unknown"].to_pylist() == arrays["unknown"].tolist()
    plain = embed(tiny.make_run(tmp_path / "plain"), photos)
    plain.save(tmp_path / "plain.parquet")
    assert parquet.read_table(tmp_path / "plain.parquet")["unknown"].null_count == 7
