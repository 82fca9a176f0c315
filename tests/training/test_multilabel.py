from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training import tiny
from tests.training.several import write_bands
from torch.nn import functional as F

from resight.errors import DataError, Interrupted, UsageError
from resight.evaluation.multilabel import mean_average_precision
from resight.recipes import BALANCES, RECIPES, Facts, balance_wishes, recipe
from resight.runs import HISTORY
from resight.training import prepare
from resight.training.augment import Mix, mix
from resight.training.fit import quality
from resight.training.multilabel import right, targets_of
from resight.training.progress import epoch_line

SEVERAL: dict[str, Any] = {"task": "multi", "loss": "bce"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bands(tmp_path_factory.mktemp("bands"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_for_several_labels_too(name: str) -> None:
    config = recipe(name, Facts(500, 3, 28, "multi"))
    assert (config.task, config.loss, config.label_smoothing) == ("multi", "bce", 0)
    assert recipe(name, Facts(500, 3, 28)).task == "single"


def configure(data: Path, wishes: dict[str, Any]) -> Any:
    samples = tiny.load(data)
    return prepare.configure(samples, np.full((len(samples), 2), 28), wishes, None)[0]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"loss": "cross_entropy"}, "expects one class a picture"),
        *(
            (balance_wishes(name, {}), "one class a picture|pictures with one class each")
            for name in BALANCES
            if name != "none"
        ),
        ({"balance.logit_adjustment": "1"}, "balance.logit_adjustment: for pictures with one class each"),
        ({"label_smoothing": "0.1"}, "label_smoothing belongs to loss=cross_entropy"),
        ({"task": "single"}, "task is what the data say"),
    ],
)
def test_wishes_that_need_one_class_a_picture(data: Path, wishes: dict[str, Any], message: str) -> None:
    assert configure(data, {}).task == "multi"
    with pytest.raises(UsageError, match=message):
        configure(data, wishes)


def test_classes_that_cannot_be_validated(tmp_path: Path) -> None:
    table = write_bands(tmp_path, 12)
    names = [f"{k:03d}.png,{'red' if k % 2 else 'red|blue'},{'val' if k > 9 else 'train'}" for k in range(12)]
    table.write_text("\n".join(["path,labels,split", *names[:10], "010.png,red,val", "011.png,red,val"]), "utf-8")
    with pytest.raises(DataError, match="no class can be validated: of 2 pictures in val"):
        configure(table, {})


def test_targets_and_what_is_right() -> None:
    config = tiny.tiny_config(Path(), SEVERAL)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.uint8)
    assert targets_of(config, labels, 3).tolist() == [[1, 0, 1], [0, 0, 0]]
    assert right(torch.tensor([[2.0, -1, 0.1], [-1, -2, -3]]), labels).item() == 2
    assert right(torch.tensor([[2.0, 1, 0.1], [-1, -2, 3]]), labels).item() == 0


def test_mixed_pictures_have_mixed_labels() -> None:
    targets = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    _, mixed = mix(torch.zeros(2, 3, 4, 4), targets, Mix("mixup", 0.75))
    assert mixed.tolist() == [[0.75, 0.25, 0.75], [0.25, 0.75, 0.25]]


def test_the_loss_is_binary_cross_entropy_of_every_label(tmp_path: Path, data: Path) -> None:
    training = tiny.start(tmp_path / "run", data, SEVERAL | {"augment.flip": "none", "augment.crop": "none"})
    training.net.eval()
    batch = training.loader.make(0)
    assert batch.labels.dtype == torch.uint8
    assert batch.labels.shape == (8, 3)
    samples = training.loader.pictures.samples
    assert [tuple(np.flatnonzero(row)) for row in batch.labels] == [samples[int(i)].labels for i in batch.indices]
    with torch.no_grad():
        loss, logs = training.objective(batch)
        logits = training.net(training.objective.normalize(batch.pixels))
    chances = torch.sigmoid(logits.double())
    own = batch.labels.double()
    slow = -(own * chances.log() + (1 - own) * (1 - chances).log()).mean()
    assert loss.item() == pytest.approx(slow.item(), rel=1e-5)
    assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, batch.labels.float()).item())
    assert logs["seen"].item() == 8


def test_training_learns_and_selects_by_map(tmp_path: Path, data: Path) -> None:
    report = tiny.Recorder()
    training = tiny.start(tmp_path / "run", data, SEVERAL | {"total_steps": 48}, report)
    state = training.fit()
    assert report.losses[-1] < 0.75 * report.losses[0]
    best = max(state.history, key=quality)
    assert state.best_step == best["step"]
    assert [e["val_map"] for e in state.history] == sorted({e["val_map"] for e in state.history}) or best[
        "val_map"
    ] > 0.5
    assert "mAP" in epoch_line(best, True)
    assert '"val_map"' in (training.run.path / HISTORY).read_text()
    result = training.evaluate(type("Stop", (), {"number": 0})())
    assert result.mean_average_precision == mean_average_precision(result.logits, training.val.labels)


def test_quality_is_map_before_accuracy() -> None:
    one = {"val_accuracy": 0.9, "val_loss": 1.0, "val_map": 0.4}
    other = {"val_accuracy": 0.1, "val_loss": 2.0, "val_map": 0.5}
    assert quality(other) > quality(one)
    assert quality(one | {"val_loss": 0.5}) > quality(one)
    assert quality({"val_accuracy": 0.9, "val_loss": 1.0}) == (0.9, -1.0)


def test_stopped_and_resumed_is_the_same_to_the_bit(tmp_path: Path, data: Path) -> None:
    changes = SEVERAL | {"augment.mixup": 0.2, "augment.cutmix": 1.0}
    tiny.start(tmp_path / "straight", data, changes).fit()

    def stop(step: int) -> None:
        if step == 7:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        tiny.start(tmp_path / "stopped", data, changes, tiny.Recorder(on_step=stop)).fit()
    tiny.again(tmp_path / "stopped", data, changes).fit()
    assert tiny.digest(tmp_path / "stopped") == tiny.digest(tmp_path / "straight")
