"""What the benchmarks of answering share: a Run, photos, the network of torchvision from the same weights, int8.

    python benchmarks/answering.py run MODEL FOLDER            an untrained ImageNet network as a Run, and weights.pth

Speed does not depend on the weights. They are scaled so that activations keep their size from layer to layer and the
logits vary by about 2: class probabilities are then neither all the same nor 0 and 1, and answers can be compared.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MODELS, SIZE = ("resnet18", "resnet50"), 224
WEIGHTS = "weights.pth"
HELD = 32
"""Pictures that int8 is compared with fp32 on; they do not calibrate."""


def make_run(model: str, folder: Path) -> Path:
    """In a process of its own, so that this one stays small. Returns the Run; ``folder / weights.pth`` is the same."""
    if not (folder / WEIGHTS).exists():
        subprocess.run([sys.executable, __file__, "run", model, folder], check=True)
    return folder / "run"


def quantize(run: Path, pictures: Path, number: int) -> str:
    """The name of an int8 artefact for OpenVINO, made by `resight export` with N pictures. Untrained weights have no
    accuracy to lose: the labels are the Run's own answers, and any loss is within the budget.
    """
    from resight import predict
    from resight.exporting.int8 import quantize
    from resight.runs import Run
    from resight.samples import Sample, SampleSet, find_images

    opened = Run.open(run)
    found = find_images([pictures])[: number + HELD]
    answers = predict(run, found)
    names = [str(file.relative_to(pictures)) for file in found]
    samples = tuple(
        Sample(name, None, opened.classes.index(answer.label), "val" if place < HELD else "train")
        for place, (name, answer) in enumerate(zip(names, answers, strict=True))
    )
    data = SampleSet(pictures, opened.classes, samples, channels=opened.card.channels, kind="folder")
    (artifact,) = quantize(opened, data, to=["openvino"], max_drop=100, pictures=number).artifacts
    return artifact.card.name


def generate_photos(folder: Path, count: int, sides: tuple[int, int] = (375, 500)) -> Path:
    """JPEG files of smooth noise, height and width ``sides``."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        coarse.resize(sides[::-1], Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)
    return folder


def photos(given: Path | None, folder: Path, count: int) -> Path:
    """``count`` files: those of ``given``, repeated under other names where there are too few, or generated ones."""
    if given is None:
        return generate_photos(folder, count)
    from resight.samples import find_images

    found = find_images([given])
    folder.mkdir(parents=True)
    for number in range(count):
        shutil.copyfile(found[number % len(found)], folder / f"{number:05}{found[number % len(found)].suffix}")
    return folder


def torch_net(model: str, weights: Path, threads: int) -> Any:
    """torchvision's network with the Run's weights, eager, NCHW, for answering."""
    import torch
    import torchvision

    torch.set_num_threads(threads)
    net = getattr(torchvision.models, model)(num_classes=1000)
    net.load_state_dict(torch.load(weights, weights_only=True))
    return net.eval()


def _make_run(model: str, folder: Path) -> None:
    import torch

    from resight.commands.import_ import import_weights
    from resight.models import create

    torch.manual_seed(0)
    net = create(model, num_classes=1000)
    smooth = torch.nn.functional.interpolate(torch.randn(16, 3, 14, 14), SIZE, mode="bicubic")  # as photos are
    with torch.no_grad():  # statistics of its own activations, so that depth neither kills nor explodes the signal
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        net.train()(smooth)
        net.fc.weight.mul_(2 / net.eval()(smooth).std())
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), folder / WEIGHTS)
    names = [f"class {number}" for number in range(1000)]
    import_weights(folder / WEIGHTS, model=model, classes=names, image_size=SIZE, out=folder / "run")


if __name__ == "__main__":
    _make_run(sys.argv[2], Path(sys.argv[3]))
