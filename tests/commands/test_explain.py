"""``resight explain``: what is written, said and refused; and the page in a real browser."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("captum")
pytest.importorskip("jinja2")

from safetensors.numpy import save as save_tensors  # noqa: E402
from tests.explaining.nets import SIZE, make_run, photo  # noqa: E402
from tests.inference.tiny import make_known_run, picture  # noqa: E402
from tests.reporting.browser import DESKTOP, PHONE, opened  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import resight  # noqa: E402
from resight import samples as data_sets  # noqa: E402
from resight.cli import app  # noqa: E402
from resight.commands.explain import METHODS, explain  # noqa: E402
from resight.errors import MissingExtra, RunError, UsageError  # noqa: E402
from resight.images import Geometry  # noqa: E402
from resight.inference import Predictor  # noqa: E402
from resight.runs import WEIGHTS, Run  # noqa: E402

NAMES = ("<b>bag", 'coat" onerror="alert(1)', "=cmd()|'$x$'", "hat\u202egpj")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A Run with hostile class names, and with its data: three training pictures of each class."""
    root = tmp_path_factory.mktemp("explain")
    for label, name in enumerate(NAMES):
        (root / "data" / name).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(photo(10 * label + k, 40, 40)).save(root / "data" / name / f"{k}.png")
    data = data_sets.load(root / "data", val_fraction=0, test_fraction=0)
    return make_run(root / "run", geometry=Geometry("crop", SIZE, SIZE), classes=data.classes, data=data)


def write(path: Path, seed: int = 0, height: int = 60, width: int = 90, channels: int = 3) -> Path:
    pixels = photo(seed, height, width, channels)
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(path)
    return path


def test_a_picture_beside_its_overlay_at_its_own_resolution(run: Run, tmp_path: Path) -> None:
    sources = [
        write(tmp_path / "wide.png", 1, 240, 400),
        write(tmp_path / "tall.png", 2, 400, 240),
        write(tmp_path / "grey.png", 3, 300, 300, channels=1),
        write(tmp_path / "small.png", 4, 28, 28),
    ]
    found = explain(run, sources, out=tmp_path / "out", faithful=False, threads=1)
    sizes = {}
    for item, source in zip(found.items, sources, strict=True):
        assert item.picture is not None
        shown, original = np.array(Image.open(item.picture)), np.array(Image.open(source).convert("RGB"))
        times = 8 if source.stem == "small" else 1
        np.testing.assert_array_equal(shown[::times, : times * original.shape[1] : times], original)
        assert not np.array_equal(shown[:, : original.shape[1]], shown[:, -original.shape[1] :])
        sizes[source.stem] = shown.shape
    assert sizes == {
        "wide": (240, 808, 3),
        "tall": (400, 484, 3),
        "grey": (300, 606, 3),
        "small": (224, 452, 3),
    }
    assert [item.picture.name for item in found.items if item.picture] == [
        f"{k:03d}-{source.stem}.png" for k, source in enumerate(sources, start=1)
    ]


def test_it_answers_what_predict_answers(run: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "a.png", 5)
    item = explain(run, source, out=tmp_path / "out", threads=1).items[0]
    answer = resight.predict(run, source, threads=1)[0]
    assert (item.label, item.probability) == (answer.label, pytest.approx(answer.probability, abs=1e-6))
    assert [(one.name, one.probability) for one in item.maps] == [
        (name, pytest.approx(p, abs=1e-6)) for name, p in answer.top[:3]
    ]
    assert item.faithfulness is not None
    assert [text for _, text in item.verdicts] == [item.faithfulness.verdict]
    assert len(item.nearest) == 6
    assert item.nearest[0].cosine >= item.nearest[5].cosine


def test_a_training_picture_is_its_own_nearest(run: Run, tmp_path: Path) -> None:
    data = json.loads((run.path / "config.json").read_text())["data"]["path"]
    source = Path(data) / NAMES[1] / "2.png"
    item = explain(run, source, out=tmp_path / "out", faithful=False, threads=1).items[0]
    assert item.nearest[0].cosine == pytest.approx(1, abs=1e-5)
    assert item.nearest[0].source == f"{NAMES[1]}/2.png"
    assert item.nearest[0].name == NAMES[1]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_for_a_class_that_was_asked_for(method: str, run: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "a.png", 6)
    found = explain(
        run, source, classes=[NAMES[3]], method=method, out=tmp_path / "out", faithful=False, compare=0, threads=1
    )
    assert [one.name for one in found.items[0].maps] == [NAMES[3]]
    assert found.items[0].maps[0].heat.shape == ((8, 8) if method in ("cam", "gradcam++") else (SIZE, SIZE))
    assert found.items[0].nearest == ()


def test_the_page_with_hostile_names_in_a_browser(run: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "<img src=x onerror=alert(2)>\n\u202e=cmd.png", 7)
    write(tmp_path / "b.png", 8, 200, 80)
    found = explain(
        run, [source, tmp_path / "b.png"], inside=True, sanity=True, out=tmp_path / "out", compare=20, threads=1
    )
    assert found.items[0].picture is not None
    assert found.items[0].picture.name == "001-img-src-x-onerror-alert-2-cmd.png"
    for size in (DESKTOP, PHONE):
        with opened(found.page, size) as seen:
            assert seen.overflow == 0
            assert seen.broken_pictures == 0
            assert (seen.dialogs, seen.errors) == ([], [])
            assert not [url for url in seen.requests if not url.startswith(("data:", "file:"))]
            assert "<img src=x onerror=alert(2)>" in seen.text
            assert "First filters" in seen.text
            assert "stage3: the most active of 64 maps" in seen.text
            assert "12 training pictures" in seen.text
    assert [len(item.verdicts) for item in found.items] == [2, 2]


def test_the_network_alone(run: Run, tmp_path: Path) -> None:
    found = explain(run, inside=True, out=tmp_path / "out", threads=1)
    assert found.items == ()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html"}
    assert "First filters" in found.page.read_text("utf-8")


def test_arrays_and_bytes(run: Run, tmp_path: Path) -> None:
    pixels = photo(9, 50, 70)
    source = write(tmp_path / "a.png", 9, 50, 70)
    options = {"faithful": False, "compare": 0, "threads": 1}
    one = explain(run, pixels, out=tmp_path / "1", **options)
    two = explain(run, source.read_bytes(), out=tmp_path / "2", **options)
    assert (one.items[0].source, two.items[0].source) == ("#0", "#0")
    assert (tmp_path / "1" / "001-0.png").read_bytes() == (tmp_path / "2" / "001-0.png").read_bytes()


def test_a_grey_network_that_does_not_know_its_data(tmp_path: Path) -> None:
    grey = make_run(tmp_path / "run", channels=1)
    found = explain(grey, photo(1, 28, 28, 1), inside=True, out=tmp_path / "out", faithful=False, threads=1)
    page = found.page.read_text("utf-8")
    assert "over\ngrey" in page
    assert "data is not known" in found.notes[0]
    assert "no training pictures are shown" in page


def test_the_command_line(run: Run, tmp_path: Path) -> None:
    source, broken = write(tmp_path / "a.png"), tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    out = tmp_path / "out"
    options = ["--out", str(out), "--compare", "5", "--threads", "1"]
    done = CliRunner().invoke(app, ["explain", str(run.path), str(source), *options])
    assert done.exit_code == 0, done.output
    assert str(out / "001-a.png") in done.stdout
    assert f"page: {out / 'index.html'}" in done.stdout
    assert "random map" in done.stdout or "rests on" in done.stdout
    assert "explaining 1 of 1" in done.stderr
    assert "explaining" not in done.stdout
    options += ["--no-faithfulness", "--json"]
    done = CliRunner().invoke(app, ["explain", str(run.path), str(broken), str(source), *options])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert [entry["source"] for entry in found["pictures"]] == [str(broken), str(source)]
    assert found["pictures"][0]["error"]
    assert found["pictures"][1]["picture"] == str(out / "002-a.png")
    assert found["pictures"][1]["faithfulness"] is None
    assert "1 of 2 pictures could not be read" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "lime"}, "methods: cam"),
        ({"classes": ["<b>ag"]}, "<b>bag"),
        ({"top": 2, "classes": [NAMES[0]]}, "contradict"),
        ({"top": 0}, "1 or more"),
        ({"compare": -1}, "0 or more"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    options: dict[str, object], said: str, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        explain(run, photo(1), out=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [{"classes": [NAMES[0]]}, {"top": 2}, {"method": "occlusion"}, {"sanity": True}, {"faithful": False}]
)
def test_options_about_pictures_are_refused_without_pictures(
    options: dict[str, object], run: Run, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="about pictures"):
        explain(run, inside=True, out=tmp_path / "out", **options)  # type: ignore[arg-type]


def test_a_class_that_is_named_twice_is_shown_once(run: Run, tmp_path: Path) -> None:
    item = explain(run, photo(1), classes=[NAMES[2]] * 2, out=tmp_path / "out", faithful=False, threads=1).items[0]
    assert [one.name for one in item.maps] == [NAMES[2]]


def test_an_unreadable_training_picture_is_not_the_fault_of_the_picture(run: Run, tmp_path: Path) -> None:
    config = json.loads((run.path / "config.json").read_text())
    data = Path(shutil.copytree(config["data"]["path"], tmp_path / "data"))
    samples = data_sets.load(data, val_fraction=0, test_fraction=0)
    own = make_run(tmp_path / "own", geometry=Geometry("crop", SIZE, SIZE), classes=samples.classes, data=samples)
    work = explain(own, photo(1), out=tmp_path / "before", faithful=False, threads=1)
    broken = data / work.items[0].nearest[0].source

    def spoil(text: str) -> None:  # after the bank was made, as if the Run carried it
        if text.startswith("explaining"):
            broken.write_bytes(b"no picture")

    found = explain(own, photo(1), out=tmp_path / "out", faithful=False, threads=1, say=spoil)
    assert found.items[0].error is None
    assert len(found.items[0].nearest) == 5
    assert any("cannot be shown" in note for note in found.notes)


def test_a_picture_unlike_the_training_data_is_called_unknown(tmp_path: Path) -> None:
    known = make_known_run(tmp_path / "run")
    weights = {"fc.weight": 6 * np.eye(4, dtype=np.float32)[:3], "fc.bias": np.zeros(3, np.float32)}
    (known.path / WEIGHTS).write_bytes(save_tensors(weights))
    known.card.files[WEIGHTS] = hashlib.sha256((known.path / WEIGHTS).read_bytes()).hexdigest()
    sources = [picture("red"), np.full((10, 10, 3), 128, np.uint8)]
    answers = list(Predictor(known, threads=1).predict(sources))
    found = explain(known, sources, out=tmp_path / "out", faithful=False, compare=0, threads=1)
    assert [item.unknown for item in found.items] == [answer.unknown for answer in answers] == [False, True]
    assert "unknown (" in found.to_text()
    assert "unlike the training data" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_junk_weights_are_named(tmp_path: Path) -> None:
    known = make_known_run(tmp_path / "run")
    (known.path / WEIGHTS).write_bytes(b"junk")
    known.card.files[WEIGHTS] = hashlib.sha256(b"junk").hexdigest()
    with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
        explain(known, picture("red"), out=tmp_path / "out", compare=0, threads=1)


def test_no_pictures_and_no_inside(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pictures were given"):
        explain(run, out=tmp_path / "out")


def test_what_is_not_installed_is_said(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resight.commands.extras as extras

    there = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in ("torch", "captum") else there(name))
    with pytest.raises(MissingExtra, match=r"'train'"):
        explain(run, photo(1), method="occlusion", out=tmp_path / "out")
    assert explain(run, photo(1), out=tmp_path / "out", faithful=False, compare=0, threads=1).items[0].error is None
