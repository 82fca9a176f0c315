"""What attention over tiles starts with: chance against what is rare, on bags of features.

    python benchmarks/tiles_start.py --fashion FASHION_MNIST --weights RUN

A bag is 440 tiles of texture and one with an object of Fashion-MNIST (`tiles_pictures.py`), as the frozen network of
RUN sees them; 300 bags to learn from and 200 to ask, of other objects and other textures. Attention and last layer
learn by the objective and the optimizer of `resight train`. "Told" is a logistic regression on the object's tiles.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from resight.images import Geometry, resize
from resight.models import ResNet, create, load_weights, network_of
from resight.models.weights import read_weights
from resight.recipes import TrainConfig, override
from resight.runs import Run
from resight.training.augment import draw
from resight.training.bags import Bags
from resight.training.loader import Batch
from resight.training.objective import Normalize
from resight.training.optim import build_optimizer, rate_factor
from resight.training.parts import freeze, set_training
from resight.training.rare import fit
from tiles_pictures import CLASSES, compose, objects, put, texture

SIDE, SIZE, TILES, BATCH, EPOCHS = 128, 32, 441, 8, 15
Floats = NDArray[np.float32]


def features(net: ResNet, card_mean: float, card_std: float, tiles: list[NDArray[np.uint8]]) -> Floats:
    normalize = Normalize([card_mean], [card_std])
    squares = np.stack([resize(tile[..., None], SIZE, SIZE) for tile in tiles])
    pixels = torch.from_numpy(squares).permute(0, 3, 1, 2)
    with torch.inference_mode():
        found: Floats = torch.cat([net.embedding(normalize(part)) for part in pixels.split(64)]).numpy()
    return found


def bags(run: Run, fashion: Path, count: int, seed: int, part: str) -> tuple[Floats, NDArray[np.int64]]:
    """float32 (count, 441, D), the object's tile first, and labels (count,)."""
    random, net, card = np.random.default_rng(seed), network_of(run).eval(), run.card
    textures = [texture(random, 2500) for _ in range(10)]
    things, labels = objects(fashion, part)
    kinds = list(CLASSES)
    with_object = []
    for number in range(count):
        thing = things[random.choice(np.flatnonzero(labels == kinds[number % len(kinds)]))]
        tile, _ = compose(random, textures, np.zeros((28, 28), np.uint8), SIDE)
        size = int(random.integers(40, 101))
        left, top = random.integers(0, SIDE - size + 1, 2)
        put(tile, resize(thing[..., None], size, size, "bicubic")[..., 0], int(left), int(top))
        with_object.append(tile)
    without = [compose(random, textures, np.zeros((28, 28), np.uint8), SIDE)[0] for _ in range(3000)]
    first, rest = (features(net, card.mean[0], card.std[0], tiles) for tiles in (with_object, without))
    drawn = rest[random.integers(0, len(rest), (count, TILES - 1))]
    return np.concatenate([first[:, None], drawn], axis=1), np.arange(count) % len(kinds)


def learn(run: Run, x: Floats, y: NDArray[np.int64], start: str, rate: float, seed: int) -> Bags:
    """Attention and last layer after ``EPOCHS``, by the objective that `resight train` has for a frozen backbone."""
    changes = {"data.geometry": "tiles", "model.freeze": "backbone", "seed": seed, "optimizer.name": "adamw"}
    changes |= {"optimizer.weight_decay": 0.01, "optimizer.lr": rate, "data.mean": [0.5], "data.std": [0.5]}
    config = override(TrainConfig(), changes)
    torch.manual_seed(seed)
    net = create("resnet20", num_classes=len(CLASSES), in_channels=1, attention=64)
    load_weights(net, read_weights(run.path))
    freeze(net, "backbone")
    objective = Bags(net, config, Geometry("tiles", SIZE, SIZE, tile=SIDE, stride=96))
    if start == "rare":
        rows = torch.from_numpy(x.reshape(-1, x.shape[2]))
        fit(net.attention, rows[torch.randperm(len(rows))[:32768]], seed)
    optimizer, random = build_optimizer(net, config.optimizer), np.random.default_rng(seed)
    total = EPOCHS * (len(x) // BATCH)
    order = np.concatenate([random.permutation(len(x))[: len(x) // BATCH * BATCH] for _ in range(EPOCHS)])
    for step in range(total):
        for group in optimizer.param_groups:
            group["lr"] = rate * rate_factor(config.schedule, step, total)
        set_training(net, config.model)
        rows = order[step * BATCH : (step + 1) * BATCH]
        parameters = draw(config.augment, seed, 0, rows)
        pixels, count = torch.from_numpy(x[rows]), torch.full((BATCH,), TILES)
        loss, _ = objective(Batch(pixels, torch.from_numpy(y[rows]), rows, parameters, step, count))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return objective.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.003, 0.01])
    asked = parser.parse_args()
    from sklearn.linear_model import LogisticRegression

    torch.set_num_threads(1)
    run = Run.open(asked.weights)
    x, y = bags(run, asked.fashion, 300, 1, "train")
    held, truth = bags(run, asked.fashion, 200, 2, "t10k")
    told = LogisticRegression(max_iter=3000, C=0.1).fit(x[:, 0], y).score(held[:, 0], truth)
    print(f"told which tile it is: {100 * told:.1f} % of {len(truth)}", flush=True)
    for start in ("random", "rare"):
        for rate in asked.rates:
            found, looked = [], []
            for seed in range(3):
                objective = learn(run, x, y, start, rate, seed)
                with torch.inference_mode():
                    answers = [int(objective.answer(bag).argmax()) for bag in held]
                    scores = objective.net.attention(torch.from_numpy(held).flatten(0, 1)).view(held.shape[:2])
                found.append(100 * np.mean(np.array(answers) == truth))
                looked.append(100 * float((scores.argmax(1) == 0).float().mean()))
            print(
                f"{start:6} rate {rate:g}: accuracy {np.mean(found):.1f} % ({', '.join(f'{v:.1f}' for v in found)}), "
                f"most attention on the object {np.mean(looked):.1f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
