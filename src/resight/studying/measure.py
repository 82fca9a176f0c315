"""What a sealed Run's network does inside, measured once: responses of its layers, its training error, its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from resight import samples as data_sets
from resight.models import network_of, parameter_count
from resight.recipes import TrainConfig
from resight.runs import CONFIG, SPLIT, Run
from resight.samples import SampleSet
from resight.studying.gradients import read_measured, write_measured
from resight.studying.layers import responses
from resight.training import reading
from resight.training.loader import Pictures, eval_batches
from resight.training.objectives import supervised
from resight.training.validate import answers

RESPONDING = 256  # validation pictures that responses are measured on
LEARNED = 2000  # training pictures that the training error is measured on


def measure_run(run: Run, path: Path) -> bool:
    """Adds to the file of ``resight.studying.gradients``: ``responses``, the standard deviation of each layer's
    response on up to 256 validation pictures; ``train_error`` in [0, 1], of the kept weights on ``train_seen``, up to
    2,000 training pictures as they would be answered, unchanged; ``parameters``. Returns False where they are there
    already.

    Raises DataError for data that changed, RunError for weights that did, StorageError.
    """
    content = read_measured(path)
    if "responses" in content:
        return False
    config = config_of(run)
    samples = samples_of(run, config)
    net = network_of(run)
    objective = supervised(net, config, samples)
    train = reading.eval_pictures(samples, "train", config)
    chosen = spread(len(train), LEARNED)
    found = torch.cat(list(answers(objective, train, chosen, 64))).argmax(1).numpy()
    wrong = int((found != train.labels[chosen]).sum())
    images = normalised(objective.normalize, reading.eval_pictures(samples, "val", config), RESPONDING)
    content["responses"] = [float(f"{value:.5g}") for value in responses(net, images).values()]
    content["train_error"], content["train_seen"] = wrong / len(chosen), len(chosen)
    content["parameters"] = parameter_count(net)
    write_measured(path, content)
    return True


def config_of(run: Run) -> TrainConfig:
    """What the Run was trained with."""
    return TrainConfig.from_json(run.read(CONFIG), str(run.path / CONFIG))


def samples_of(run: Run, config: TrainConfig) -> SampleSet:
    """The pictures that the Run was trained with, in its parts. Raises DataError where they are gone."""
    return data_sets.load(config.data.path, split_csv=run.file(SPLIT), classes=run.classes)


def spread(count: int, most: int) -> np.ndarray:
    """Up to ``most`` positions of ``count``, evenly over all of them: int64."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def normalised(normalize: torch.nn.Module, pictures: Pictures, most: int) -> torch.Tensor:
    """Up to ``most`` pictures of a part as the network sees them: float32 (n, C, S, S)."""
    chosen = spread(len(pictures), most)
    parts: list[torch.Tensor] = [normalize(pixels) for pixels in eval_batches(pictures, chosen, 64)]
    return torch.cat(parts)
