"""What a Run keeps when it is continued: rows of the head, parts of pictures, and what is said of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.tiny import CLASSES, tiny_config, write_patterns

from resight.errors import DataError, UsageError
from resight.evaluation import evaluate
from resight.images import Geometry
from resight.models import Source, create
from resight.recipes import TrainConfig
from resight.runs import WEIGHTS, Architecture, Run, RunCard
from resight.samples import SampleSet, check_files, load, split_csv
from resight.training.continuing import Base, by_age, describe, keep_head, leaks, renewed


def probabilities(logits: torch.Tensor, count: int) -> torch.Tensor:
    return logits[:, :count].softmax(1)


def test_rows_move_by_name_and_new_ones_are_the_mean() -> None:
    torch.manual_seed(0)
    old = create("resnet20", num_classes=3).eval()
    source = Source({name: value.clone() for name, value in old.state_dict().items()}, "old", classes=("c", "a", "b"))
    new = create("resnet20", num_classes=5).eval()
    new.load_state_dict(old.state_dict() | {n: v for n, v in new.state_dict().items() if n.startswith("fc.")})
    said = keep_head(new, source, ("c", "a", "b", "d", "e"))
    pictures = torch.randn(4, 3, 32, 32)
    before, after = old(pictures), new(pictures)
    assert torch.allclose(after[:, :3], before, atol=1e-6)
    assert torch.allclose(after[:, 3], before.mean(1), atol=1e-6)
    assert torch.allclose(after[:, 3], after[:, 4], atol=1e-6)
    assert torch.allclose(probabilities(after, 3), before.softmax(1), atol=1e-7)
    assert torch.equal(after.argmax(1), before.argmax(1))  # no picture goes to a class that knows nothing yet
    assert "3 classes; 2 start" in said

    moved = create("resnet20", num_classes=4).eval()
    keep_head(moved, source, ("b", "x", "c", "a"))
    assert torch.equal(moved.fc.weight[[2, 3, 0]], old.fc.weight)
    assert torch.equal(moved.fc.bias[[2, 3, 0]], old.fc.bias)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_patterns(tmp_path / "data")


def base_of(data: Path, tmp_path: Path, keep_absent: bool = False, **card: Any) -> Base:
    samples = load(data)
    split_csv.write(tmp_path / "split.csv", samples)
    made = RunCard(
        architecture=Architecture("resnet20"), classes=samples.classes, channels=3, geometry=Geometry("crop", 28, 28),
        mean=(0.5,) * 3, std=(0.2,) * 3, files={WEIGHTS: "0" * 64}, **card,
    )  # fmt: skip
    rows = split_csv.read(tmp_path / "split.csv")
    return Base(Run(tmp_path / "run", made), tiny_config(data.resolve()), rows, keep_absent)


def parts(samples: SampleSet) -> dict[str, str]:
    return {sample.source: sample.split for sample in samples.samples}


def test_tested_pictures_stay_tested_when_others_come(data: Path, tmp_path: Path) -> None:
    base, before = base_of(data, tmp_path), parts(load(data))
    for extra in range(15):
        shutil.copy(data / "rows" / f"{extra:02d}.png", data / "rows" / f"0{extra:02d}x.png")
    shutil.copytree(data / "checks", data / "waves")
    again = load(data, classes=base.run.classes, known=base.known_parts(data))
    assert again.classes == (*CLASSES, "waves")
    assert {source: part for source, part in parts(again).items() if source in before} == before
    assert again.counts()["test"][3] == 2
    changed = {source for source, part in parts(load(data)).items() if before.get(source, part) != part}
    assert changed  # without it, some would have moved


def test_a_copy_elsewhere_is_known_by_name_and_size(data: Path, tmp_path: Path) -> None:
    base = base_of(data, tmp_path)
    other = tmp_path / "moved"
    shutil.copytree(data, other)
    (other / "rows" / "00.png").write_bytes((data / "rows" / "00.png").read_bytes() + b"\0")
    known = base.known_parts(other)
    assert ("rows/00.png", None) not in known  # another picture of the same name
    assert len(known) == 59
    shutil.rmtree(data)  # nothing to compare with: the name counts
    assert len(base.known_parts(other)) == 60


def test_tested_pictures_under_other_names_are_told(data: Path, tmp_path: Path) -> None:
    base = base_of(data, tmp_path)
    judged = [source for source, part in parts(load(data)).items() if part in ("val", "test")]
    other = tmp_path / "renamed"
    shutil.copytree(data, other)
    for number, source in enumerate(judged):
        (other / source).rename(other / Path(source).parent / f"{number:03d}-renamed.png")
    known = base.known_parts(other)
    samples = load(other, seed=5, classes=base.run.classes, known=known)
    trained = [s.source for s in samples.part("train") if "renamed" in s.source]
    assert trained
    (said,) = leaks(base, samples, check_files(samples, threads=1))
    assert f"{len(trained)} pictures that" in said
    assert "renamed.png)" in said
    shutil.rmtree(data)
    (said,) = leaks(base, samples, check_files(samples, threads=1))
    assert f"{len(judged)} pictures" in said
    assert "cannot be said" in said


def test_pictures_under_other_names_keep_their_parts(data: Path, tmp_path: Path) -> None:
    """Moved into another folder, every name changed; one picture was replaced by another of the same size."""
    base, before = base_of(data, tmp_path), parts(load(data))
    other = tmp_path / "moved"
    names = {source: f"{Path(source).parent}/photo-{k:03d}.png" for k, source in enumerate(reversed(before))}
    for source, name in names.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / source, other / name)
    lost = next(source for source, part in before.items() if part == "test")
    content = (data / lost).read_bytes()
    (other / names[lost]).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = base.found_in(other)
    assert [row.split for row in found.rows.values()] == [row.split for row in base.rows.values()]  # in order
    samples = load(other, seed=5, classes=base.run.classes, known=found.known_parts(other))
    now = parts(samples)
    assert all(now[names[source]] == part for source, part in before.items() if source != lost)
    assert describe(found, samples)["kept"] == {"val": 6, "test": 5}
    shutil.rmtree(data)  # nothing to compare with
    assert base.found_in(other).rows == base.rows


def test_one_picture_of_two_that_are_alike_takes_the_name(data: Path, tmp_path: Path) -> None:
    base = base_of(data, tmp_path)
    other = tmp_path / "renamed"
    shutil.copytree(data, other)
    (other / "rows" / "00.png").rename(other / "rows" / "x.png")
    shutil.copy(other / "rows" / "x.png", other / "rows" / "y.png")
    keys = [source for source, _ in base.found_in(other).rows]
    assert (keys.count("rows/x.png"), keys.count("rows/y.png"), keys.count("rows/00.png")) == (1, 0, 0)


def test_a_layout_that_trains_on_tested_pictures_is_told(data: Path, tmp_path: Path) -> None:
    base = base_of(data, tmp_path)
    before = parts(load(data))
    table = ["path,label,split"] + [
        f"{source},{source.split('/')[0]},{'test' if part == 'train' and k % 2 else 'train'}"
        for k, (source, part) in enumerate(before.items())
    ]
    (data / "set.csv").write_text("\n".join(table))
    samples = load(data / "set.csv", classes=base.run.classes, known=base.known_parts(data / "set.csv"))
    now = parts(samples)
    assert {now[source] for source, part in before.items() if part == "val"} == {"val"}  # the table has none: kept
    counted = sum(part == "test" and now[source] == "train" for source, part in before.items())
    assert counted
    (said,) = leaks(base, samples, check_files(samples, threads=1))
    assert f"warning: {counted} pictures" in said


def test_classes_without_pictures_are_refused_unless_they_are_kept(data: Path, tmp_path: Path) -> None:
    refusing, keeping = base_of(data, tmp_path), base_of(data, tmp_path, keep_absent=True)
    shutil.rmtree(data / "rows")
    samples = load(data, classes=CLASSES, known=refusing.known_parts(data))
    with pytest.raises(DataError, match=r"1 of the 3 classes .* rows") as caught:
        describe(refusing, samples)
    assert "--keep-absent" in str(caught.value)
    told = describe(keeping, samples)
    assert (told["absent"], told["classes"], told["kept"]) == (["rows"], 3, {"val": 4, "test": 4})


@pytest.mark.parametrize(
    "name", ["model.name", "model.options.stem", "data.image_size", "data.channels", "model.weights"]
)
def test_what_follows_the_run_cannot_be_wished(data: Path, tmp_path: Path, name: str) -> None:
    base = base_of(data, tmp_path)
    with pytest.raises(UsageError, match=f"{name} cannot be chosen with --from"):
        base.wishes({name: 1, "epochs": 3})
    followed = base.wishes({"epochs": 3})
    assert followed["model.weights"] == str((tmp_path / "run").resolve())
    assert (followed["data.channels"], followed["epochs"]) == (3, 3)


def test_settings_follow_without_what_was_measured(data: Path, tmp_path: Path) -> None:
    base = base_of(data, tmp_path)
    assert base.config is not None
    base.config.budget_seconds, base.config.epochs = 60.0, 7.5
    base.config.micro_batch, base.config.memory_gb, base.config.data.cache_gb = 4, 8.0, 0.01  # what memory decided
    config = renewed(base)
    assert config is not None
    assert (config.total_steps, config.budget_seconds, config.epochs, config.micro_batch) == (0, 0, 7.5, 0)
    assert (config.memory_gb, config.data.cache_gb) == (0, TrainConfig().data.cache_gb)
    assert (config.device, config.precision, config.threads) == ("auto", "auto", 0)
    assert (config.augment, config.optimizer, config.batch) == (base.config.augment, base.config.optimizer, 8)
    base.config.transfer.rung, base.config.distill.teacher = "lpft", "gone"
    again = renewed(base)
    assert again is not None
    assert (again.transfer.rung, again.distill.teacher) == ("none", None)
    assert renewed(Base(base.run, None, {}, False)) is None
    assert base.config.total_steps == 12  # a copy
    assert isinstance(config, TrainConfig)


def test_accuracy_by_age_of_classes() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    answers = np.array([0, 0, 0, 2, 1, 1, 2, 0])
    found = evaluate(np.eye(3)[answers] * 5, labels, ("a", "b", "c"))
    told = {"classes": 2, "before": {"test": {"right": 3, "n": 6}}}
    known, new = by_age(found, "test", told)
    assert "83.3 %" in known
    assert "of 6; before: 50.0 % of the same" in known
    assert "50.0 %" in new
    assert "of 2" in new
    (known,) = by_age(found, "test", {"classes": 3, "before": {"test": {"right": 3, "n": 4}}})
    assert "before: 75.0 % of the 4 that were there" in known
