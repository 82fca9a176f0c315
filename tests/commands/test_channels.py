"""Pictures of four and five channels the whole way: what lies in one channel alone is learned, and answered alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from tests.inference import tiny  # noqa: E402
from tests.inference.test_multilabel import FIELDS  # noqa: E402
from tests.training.tiny import CLASSES, pattern  # noqa: E402

from resight.attribution import load_network  # noqa: E402
from resight.attribution.network import to_tensor  # noqa: E402
from resight.cli import app  # noqa: E402
from resight.commands.bench import decode_rate  # noqa: E402
from resight.commands.eval import evaluate_run  # noqa: E402
from resight.commands.explain import explain  # noqa: E402
from resight.commands.import_ import import_weights  # noqa: E402
from resight.commands.own_data import load_own  # noqa: E402
from resight.commands.predict import predict  # noqa: E402
from resight.commands.preview import preview  # noqa: E402
from resight.commands.train import train  # noqa: E402
from resight.doctor.scan import scan  # noqa: E402
from resight.errors import DataError, UsageError  # noqa: E402
from resight.inference import Predictor  # noqa: E402
from resight.runs import WEIGHTS, Run  # noqa: E402

OPTIONS: dict[str, Any] = {"model": "resnet20", "batch": 8, "workers": 0, "device": "cpu", "image_size": 28}
SETTINGS: dict[str, Any] = {"model.options.stem": "tiny", "total_steps": 54, "threads": 1, "augment.crop": "shift"}


def hidden(kind: str, number: int, channels: int) -> NDArray[np.uint8]:
    """Noise, in whose last channel alone is what tells the class."""
    pixels = np.random.default_rng(number).integers(0, 256, (28, 28, channels), dtype=np.uint8)
    pixels[:, :, -1] = pattern(kind, number)[:, :, 0]
    return pixels


def write(root: Path, channels: int, each: int = 20) -> Path:
    for label, kind in enumerate(CLASSES):
        (root / kind).mkdir(parents=True)
        for number in range(each):
            pixels = hidden(kind, 100 * label + number, channels)
            if channels == 4:
                Image.fromarray(pixels).save(root / kind / f"{number:02d}.png")
            else:
                np.save(root / kind / f"{number:02d}.npy", pixels)
    return root


@pytest.fixture(scope="module", params=[4, 5])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    root, channels = tmp_path_factory.mktemp("channels"), request.param
    wish = {"channels": 4} if channels == 4 else {}  # arrays say it themselves
    return train(write(root / "data", channels), out=root / "run", set=SETTINGS, **OPTIONS, **wish)


def test_what_lies_in_the_last_channel_is_learned(run: Run) -> None:
    card = run.card
    assert (card.status, card.channels, len(card.mean), len(card.std)) == (
        "sealed",
        card.channels,
        *[card.channels] * 2,
    )
    assert card.channels in (4, 5)
    assert run.metrics.top1 > 0.8
    assert card.parity["max_abs"] <= 1e-4
    assert card.mean[:-1] == pytest.approx([0.5] * (card.channels - 1), abs=0.02)


def test_pytorch_and_the_sealed_run_answer_alike(run: Run) -> None:
    samples, network, predictor = load_own(run), load_network(run).eval(), Predictor(run, threads=1)
    test = samples.part("test")
    squares = [predictor.square(samples.path(sample)) for sample in test]
    with torch.no_grad():
        logits = torch.cat([network(to_tensor(square)) for square in squares])
    expected = (logits / run.card.temperature).softmax(1).numpy()
    found = predict(run, [samples.path(sample) for sample in test], threads=1)
    for row, one in zip(expected, found, strict=True):
        assert dict(one.top) == pytest.approx(dict(zip(run.classes, row.tolist(), strict=True)), abs=1e-5)
    array = samples.read(test[0], run.card.channels)
    assert predictor.square(array).tolist() == squares[0].tolist()
    result = evaluate_run(run.path, part="test", threads=1)
    assert result.evaluation.metrics["accuracy"].value == run.metrics.top1


def test_pictures_of_other_numbers_are_errors_of_their_own(run: Run, tmp_path: Path) -> None:
    channels = run.card.channels
    Image.new("RGB", (40, 40)).save(tmp_path / "rgb.png")
    np.save(tmp_path / "six.npy", np.zeros((40, 40, 6), np.uint8))
    good = next(iter(load_own(run).samples))
    found = predict(run, [tmp_path / "rgb.png", load_own(run).path(good), tmp_path / "six.npy"], threads=1)
    assert f"it has 3 channels (RGB); expected {channels}" in str(found[0].error)
    assert found[1].label in CLASSES
    assert f"it has 6 channels; expected {channels}" in str(found[2].error)
    with pytest.raises(UsageError, match=rf"\(H, W, {channels}\), found uint8 \(8, 8, 3\)"):
        Predictor(run, threads=1).square(np.zeros((8, 8, 3), np.uint8))


def test_explanations_show_what_can_be_seen_and_say_so(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    samples = load_own(run)
    result = explain(run, [samples.path(samples.samples[0])], out=tmp_path, faithful=False, inside=True, threads=1)
    (item,) = result.items
    assert item.error is None
    with Image.open(str(item.picture)) as image:
        shown = np.asarray(image)
    pixels = samples.read(samples.samples[0], run.card.channels)
    left = shown[4:220:8, 4:220:8][:27, :27]
    if run.card.channels == 4:
        assert np.array_equal(left, pixels[:27, :27, :3])
        assert "first three of 4 channels" in result.notes[0]
    else:
        assert np.abs(left[:, :, 0] - pixels[:27, :27].mean(2)).max() <= 0.5
        assert "mean of 5 channels" in result.notes[0]


def test_doctor_preview_views_and_bench_work(run: Run, tmp_path: Path) -> None:
    samples, channels = load_own(run), run.card.channels
    found = scan(samples, threads=1)
    assert not found.failed
    policy = {"augment.policy": "trivial", "augment.color": 0.3}
    sheet = preview(samples.root, image_size=28, channels=channels, out=tmp_path / "sheet.png", set=policy)
    with Image.open(sheet) as image:
        assert image.size[0] > 300
    assert evaluate_run(run.path, part="test", tta="flip", threads=1).augmented is not None
    assert decode_rate(run.card.geometry, channels, 1, 0.01) > 0


def test_any_number_of_labels_and_five_channels_have_a_page(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    rows = ["path,labels"]
    for number in range(8):
        np.save(tmp_path / f"{number}.npy", np.random.default_rng(number).integers(0, 256, (9, 9, 5), dtype=np.uint8))
        rows.append(f"{number}.npy,{'blue|red' if number % 2 else 'green'}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n", "utf-8")
    several = tiny.make_run(
        tmp_path / "run",
        model=tiny.graph(task="multi", channels=5).SerializeToString(),
        fields=FIELDS | {"channels": 5, "mean": (0.0,) * 5, "std": (1.0,) * 5},
    )
    page = tmp_path / "page.html"
    evaluate_run(several, tmp_path / "table.csv", report=page, part="all", threads=1)
    assert "data:image/jpeg" in page.read_text("utf-8")


@pytest.mark.parametrize(("channels", "found"), [(3, ["a.png"]), (5, ["a.npy", "a.png"])])
def test_arrays_beside_pictures_are_answered_where_the_run_needs_them(
    tmp_path: Path, channels: int, found: list[str]
) -> None:
    fields = {"channels": channels, "mean": (0.0,) * channels, "std": (1.0,) * channels}
    model = tiny.graph(channels=channels).SerializeToString()
    small = tiny.make_run(tmp_path / "run", model=model, fields=fields)
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "a.npy", np.zeros((9, 9, channels), np.uint8))
    Image.new("RGB", (9, 9)).save(tmp_path / "a" / "a.png")
    answers = predict(small, tmp_path / "a", threads=1)
    assert [Path(answer.source).name for answer in answers] == found
    assert answers[0].error is None


def test_what_cannot_work_is_refused(run: Run, tmp_path: Path) -> None:
    channels = run.card.channels
    with pytest.raises(UsageError, match="corruptions are defined for grey and RGB"):
        evaluate_run(run.path, part="test", corruptions=True, threads=1)
    with pytest.raises(UsageError, match=f"take {channels} channels and do not say"):
        import_weights(
            run.path / WEIGHTS, model="resnet20", options={"stem": "tiny"}, classes=names(tmp_path), out=tmp_path / "a"
        )
    with pytest.raises(DataError, match="60 of 60 pictures cannot be read"):
        train(load_own(run).root, out=tmp_path / "b", channels=6, set=SETTINGS, **OPTIONS)
    assert not (tmp_path / "b").exists()


def names(folder: Path) -> Path:
    path = folder / "names.txt"
    path.write_text("\n".join(CLASSES))
    return path


@pytest.mark.parametrize("run", [5], indirect=True)  # once is enough: exporting takes seconds
def test_weights_of_so_many_channels_are_imported_with_their_statistics(run: Run, tmp_path: Path) -> None:
    made = import_weights(
        run.path / WEIGHTS, model="resnet20", options={"stem": "tiny"}, classes=names(tmp_path), image_size=28,
        crop_ratio=1.0, mean=run.card.mean, std=run.card.std, out=tmp_path / "made",
    )  # fmt: skip
    assert made.card.channels == run.card.channels
    samples = load_own(run)
    square = Predictor(run, threads=1).square(samples.path(samples.samples[0]))[None]
    one, other = (Predictor(each, threads=1).run_pixels(square).logits for each in (run, made))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_command_line_takes_channels(tmp_path: Path) -> None:
    data = write(tmp_path / "data", 4, each=4)
    done = CliRunner().invoke(app, ["preview", str(data), "--channels", "5", "--out", str(tmp_path / "x.png")])
    assert done.exit_code != 0
    done = CliRunner().invoke(app, ["preview", str(data), "--channels", "4", "--out", str(tmp_path / "x.png")])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["train", str(data), "--channels", "17"])
    assert done.exit_code == 2


def test_older_cards_and_impossible_numbers(run: Run, tmp_path: Path) -> None:
    plain = json.loads(run.card.to_json())
    for wrong in (0, 17, True, 3.0):
        (tmp_path / "run.json").write_text(json.dumps(plain | {"channels": wrong}))
        with pytest.raises(Exception, match="channels"):
            Run.open(tmp_path)
