"""A made collapse is told within 500 updates on real pictures; healthy trainings of that length are not accused."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch
from tests.training.tiny import Recorder

from resight import samples as data_sets
from resight.commands import pretrain as command
from resight.pretraining.build import pretraining_for
from resight.recipes import TrainConfig
from resight.runs import CONFIG
from resight.training import prepare, reading
from resight.training.fit import Training

UPDATES, EVERY, EACH = 500, 20, 200


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first pictures of each class of CIFAR-10's training part, as JPEG."""
    archive = Path(os.environ.get("RESIGHT_SHARED_DATA", "")) / "data" / "cifar10-jpeg.zip"
    if not archive.is_file():
        pytest.skip("RESIGHT_SHARED_DATA does not lead to data/cifar10-jpeg.zip: real pictures are not here")
    root, taken = tmp_path_factory.mktemp("cifar"), dict[str, int]()
    with zipfile.ZipFile(archive) as packed:
        for name in sorted(packed.namelist()):
            parts = Path(name).parts
            if "train" in parts and name.lower().endswith((".jpg", ".jpeg")) and taken.get(parts[-2], 0) < EACH:
                taken[parts[-2]] = taken.get(parts[-2], 0) + 1
                (root / parts[-2]).mkdir(exist_ok=True)
                (root / parts[-2] / parts[-1]).write_bytes(packed.read(name))
    return root


def training_of(data: Path, path: Path, method: str, stopped: bool) -> Training:
    wishes = {"model.name": "resnet20", "model.options.stem": "tiny", "batch": 32, "total_steps": 4 * UPDATES}
    wishes |= {"pretrain.views": 2, "pretrain.watch_steps": EVERY, "data.workers": 0, "threads": 1, "device": "cpu"}
    wishes |= {} if stopped else {"pretrain.stop_gradient": False}
    run = command.start(data, method, wishes, None, False, path, lambda _: None)
    config = TrainConfig.from_json((run.path / CONFIG).read_bytes(), CONFIG)
    samples = data_sets.load(data, split_csv=run.path / "split.csv").unlabelled()
    net = prepare.build_net(config, 0, None, lambda _: None)
    train, val = reading.train_pictures(samples, config), reading.eval_pictures(samples, "val", config)
    torch.set_num_threads(1)
    return Training(run, config, pretraining_for(net, config), train, val, Recorder())


@pytest.mark.soak
@pytest.mark.parametrize(
    ("method", "stopped"),
    [("fastsiam", False), ("byol", False), ("fastsiam", True), ("byol", True), ("simclr", True)],
)
def test_a_collapse_is_told_and_nothing_else(method: str, stopped: bool, cifar: Path, tmp_path: Path) -> None:
    training, said = training_of(cifar, tmp_path / "run", method, stopped), list[str]()
    for step in range(UPDATES):
        training.update(training.loader.make(step))
        said += [line for line in training.objective.remarks() if "have collapsed" in line]
        if said:
            break
    looks = training.objective.watch.seen  # type: ignore[union-attr]
    print(f"\n{method} stopped={stopped}", [(look.step, round(look.spread, 2), round(look.rank, 1)) for look in looks])
    assert bool(said) != stopped
