"""Bags of tiles in PyTorch: pooling, what is learned from, exact resume, and the same answers in a sealed Run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import resight
from resight.errors import Interrupted, UsageError
from resight.images import cut as cut_tiles
from resight.images import decode, tile_boxes
from resight.inference import Predictor
from resight.models import network_of
from resight.training import objectives, prepare, reading
from resight.training.bags import Bags, Embedded, bag_batch
from resight.training.batches import split
from resight.training.fit import Training
from resight.training.loader import TrainLoader

from .tiny import Recorder, again, digest, last, load, start, write_large

TILED: dict[str, Any] = {
    "data.geometry": "tiles",
    "model.options": {"stem": "tiny", "attention": 8},
    "tiles.side": 32,
    "tiles.stride": 16,
    "tiles.attention": 8,
    "tiles.bag": 6,
    "model.name": "resnet8",
    "augment.crop": "none",
    "batch": 4,
    "total_steps": 6,
    "optimizer.name": "adamw",
    "optimizer.lr": 0.002,
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large(tmp_path_factory.mktemp("large"))


@pytest.fixture
def training(large: Path, tmp_path: Path) -> Training:
    return start(tmp_path / "run", large, TILED)


def bags(training: Training) -> Bags:
    assert isinstance(training.objective, Bags)
    return training.objective


def slow_logits(objective: Bags, picture: NDArray[np.uint8]) -> torch.Tensor:
    """One tile at a time, one softmax over all; the network as it is."""
    geometry, scores, logits = objective.geometry, [], []
    for box in tile_boxes(geometry, *picture.shape[:2]):
        tile = torch.from_numpy(cut_tiles(geometry, picture, box[None])).permute(0, 3, 1, 2)
        out = objective.net.features(objective.normalize(tile))
        scores.append(out["attention"])
        logits.append(out["logits"])
    return torch.cat(scores).softmax(0) @ torch.cat(logits)


@torch.no_grad()
def test_pooling_features_is_pooling_logits(training: Training) -> None:
    """The loss's way, padded bags of features, and the answer's way, tile by tile, give the same logits."""
    objective, pictures = bags(training), training.loader.pictures
    objective.eval()
    expected = torch.stack([slow_logits(objective, pictures[i]) for i in range(4)])
    found = torch.cat(list(objective.answers(pictures, np.arange(4))))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    pixels, count = bag_batch(pictures, np.arange(4), objective.geometry)
    assert len(set(count.tolist())) > 1  # there is padding
    rows = objective.net.embedding(objective.normalize(pixels.flatten(0, 1))).view(4, pixels.shape[1], -1)
    batch = training.loader.make(0)
    batch.labels, batch.indices = batch.labels[:4], np.arange(4)
    batch.pixels, batch.tiles = rows, count
    seen: list[torch.Tensor] = []
    objective.outcome = lambda logits, *_: (seen.append(logits), None)[1]  # type: ignore[assignment,method-assign]
    objective(batch)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-4)


def test_learned_from_are_the_most_attended_and_some_drawn(training: Training) -> None:
    objective, batch = bags(training), training.loader.make(1)
    assert batch.tiles is not None
    attention = torch.randn(batch.pixels.shape[:2], generator=torch.Generator().manual_seed(1))
    objective._attention = lambda _, there: attention.flatten().masked_fill(~there, -torch.inf)  # type: ignore[method-assign]
    chosen, there = objective.choose(batch)
    assert chosen.shape == (4, 6)
    draws = []
    for row, real, scores, count in zip(chosen, there, attention, batch.tiles.tolist(), strict=True):
        kept = row[real].tolist()
        assert len(kept) == min(6, count)
        assert len(set(kept)) == len(kept)
        assert max(kept) < count
        assert set(scores[:count].argsort(descending=True)[:3].tolist()) <= set(kept)
        draws.append(set(kept) - set(scores[:count].argsort(descending=True)[:3].tolist()))
    assert torch.equal(objective.choose(batch)[0], chosen)  # a function of seed, step and picture
    batch.step += 1
    assert not torch.equal(objective.choose(batch)[0], chosen)


def test_padding_is_in_no_statistics(training: Training) -> None:
    """A bag alone, and the same bag beside a larger one, move the norms as their real tiles do."""
    objective = bags(training)
    seen: list[int] = []
    embedding = objective.net.embedding
    objective.net.embedding = lambda x: (seen.append(len(x)), embedding(x))[1]  # type: ignore[method-assign]
    batch = training.loader.make(0)
    assert batch.tiles is not None
    objective.config.tiles.bag = 4096
    objective.embedded(batch)
    assert seen == [int(batch.tiles.sum())]


def test_micro_batches_keep_their_tiles(training: Training) -> None:
    batch = training.loader.make(0)
    parts = list(split(batch, 3))
    assert [len(part.pixels) for part in parts] == [3, 1]
    assert torch.equal(torch.cat([part.tiles for part in parts if part.tiles is not None]), batch.tiles)


@pytest.mark.parametrize("changes", [{}, {"model.freeze": "backbone"}])
def test_a_stopped_training_goes_on_to_the_very_bits(large: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    wishes = TILED | changes
    start(tmp_path / "straight", large, wishes).fit()
    stopped = start(tmp_path / "stopped", large, wishes)
    stop = Recorder()
    stopped.report = stop

    def raises(done: int) -> None:
        if done == 3:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    stop.on_step = raises
    with pytest.raises(Interrupted):
        stopped.fit()
    again(tmp_path / "stopped", large, wishes).fit()
    assert last(tmp_path / "stopped").state.step == 6
    assert digest(tmp_path / "stopped") == digest(tmp_path / "straight")


def test_a_frozen_network_looks_once(large: Path, tmp_path: Path) -> None:
    """With its tiles seen once, in evaluation mode, the head learns what it would learn from them each time."""
    training = start(tmp_path / "run", large, TILED | {"model.freeze": "backbone"})
    objective = bags(training)
    said: list[str] = []
    pictures = reading.train_pictures(load(large), objective.config)
    embedded = Embedded(pictures, objective, said.append, "training")
    assert not said  # not before it is asked for: a training that goes on has its weights only then
    found = torch.cat(list(objective.answers(embedded, np.arange(3))))
    expected = torch.cat(list(objective.answers(pictures, np.arange(3))))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert len(said) == 1
    batch = TrainLoader(embedded, objective.config).make(0)
    assert batch.pixels.ndim == 3
    before = {name: value.clone() for name, value in objective.net.state_dict().items()}
    training.loader = TrainLoader(embedded, objective.config)
    training.fit()
    changed = {n.partition(".")[0] for n, v in objective.net.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"fc", "attention"}


@pytest.fixture(scope="module")
def sealed(large: Path, tmp_path_factory: pytest.TempPathFactory) -> resight.Run:
    return resight.train(
        large, model="resnet8", image_size=28, epochs=2, seed=1, workers=0, device="cpu",
        out=tmp_path_factory.mktemp("sealed") / "run",
        set={"data.geometry": "tiles", "tiles.side": 32, "tiles.bag": 6, "model.options.stem": "tiny"},
    )  # fmt: skip


def test_the_sealed_run_answers_as_the_network(sealed: resight.Run, large: Path) -> None:
    card = sealed.card
    assert card.geometry.to_dict()["tile"] == 32
    assert card.geometry.stride == 16
    assert card.parity["max_abs"] < 1e-4
    assert card.architecture.options["attention"] == 64
    samples, config = load(large), resight_config(sealed)
    objective = objectives.supervised(network_of(sealed).eval(), config, samples)
    assert isinstance(objective, Bags)
    predictor = Predictor(sealed, threads=1)
    for file in sorted(large.glob("*/*.png"))[::9]:
        picture = decode(file)
        expected = objective.answer(picture)
        np.testing.assert_allclose(predictor.tiled.answer(picture, ("logits",))[0], expected, atol=1e-5)
        (answer,) = predictor.predict([file])
        assert answer.label == sealed.classes[int(expected.argmax())]


def resight_config(run: resight.Run) -> Any:
    from resight.recipes import TrainConfig

    return TrainConfig.from_json(run.file("config.json").read_bytes(), "config.json")


def test_eval_explain_and_embed(sealed: resight.Run, large: Path, tmp_path: Path) -> None:
    found = resight.evaluate_run(sealed)
    stored = sealed.card.metrics["test"]
    assert found.evaluation.to_dict() == stored
    file = next(iter(sorted(large.glob("*/*.png"))))
    result = resight.explain(sealed, file, out=tmp_path / "explained")
    (item,) = result.items
    assert item.peak is not None
    assert any("not compared" in note for note in result.notes)
    height, width = decode(file).shape[:2]
    with Image.open(item.picture.with_name(f"{item.picture.stem}-map.png")) as whole:
        assert whole.size == (width, height)
        assert whole.getpixel(item.peak) == 255
    assert result.to_dict()["pictures"][0]["peak"] == {"x": item.peak[0], "y": item.peak[1]}
    (label,) = resight.predict(sealed, file)
    assert (item.label, item.probability) == (label.label, pytest.approx(label.probability, abs=1e-6))
    assert (tmp_path / "explained" / "index.html").stat().st_size > 10_000


def test_its_weights_start_others(sealed: resight.Run, large: Path, tmp_path: Path) -> None:
    """Another training with tiles takes attention and geometry over; one with whole pictures neither."""
    samples = load(large)
    sizes = prepare.some_sizes(samples)
    config, source = prepare.configure(samples, sizes, {"model.weights": str(sealed.path)}, None)
    assert (config.data.geometry, config.tiles.side, config.tiles.stride) == ("tiles", 32, 16)
    net = prepare.build_net(config, 3, source, lambda _: None)
    assert torch.equal(net.state_dict()["attention.V.weight"], network_of(sealed).state_dict()["attention.V.weight"])
    said: list[str] = []
    wishes = {"model.weights": str(sealed.path), "data.geometry": "squash"}
    config, source = prepare.configure(samples, sizes, wishes, "finetune")
    assert "attention" not in config.model.options
    prepare.build_net(config, 3, source, said.append)
    assert any("left out" in text for text in said)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "random crops": ({"augment.crop": "resized"}, "augment.crop=resized"),
    "mixup": ({"augment.mixup": 0.2}, "augment.mixup"),
    "cutmix": ({"augment.cutmix": 1.0}, "augment.cutmix"),
    "another size": ({"data.train_size": 64}, "data.train_size"),
    "growing sizes": ({"data.start_scale": 0.5}, "data.start_scale"),
    "version 1": ({"data.geometry_version": 1}, "data.geometry_version"),
    "compiling": ({"compile": True}, "compile"),
    "measured batches": ({"auto_batch": True}, "auto_batch"),
    "whitening": ({"model.whitening": True}, "model.whitening"),
    "FixRes": ({"data.fix_share": 0.2}, "data.fix_share"),
    "a limit of memory": ({"memory_gb": 8.0}, "memory_gb"),
    "another width of attention": ({"model.options.attention": 16}, "model.options.attention=16 has no effect"),
    "a budget for what is seen once": ({"model.freeze": "backbone", "budget_seconds": 60.0}, "a budget does not go"),
    "the ladder": ({"transfer.rung": "lpft"}, "transfer.rung"),
    "a teacher": ({"distill.teacher": "nowhere"}, "distill.teacher"),
    "a stride that leaves out": ({"tiles.side": 32, "tiles.stride": 33}, "stride"),
    "tiles of squares": ({"data.geometry": "crop", "tiles.side": 32}, "tiles.side has no effect"),
    "bags of a frozen network": ({"model.freeze": "backbone", "tiles.bag": 3}, "tiles.bag has no effect"),
    "changes for a frozen network": (
        {"model.freeze": "backbone", "augment.flip": "none"},
        "augment.flip has no effect",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_with_tiles_is_refused(name: str, large: Path) -> None:
    wishes, message = REFUSED[name]
    samples = load(large)
    with pytest.raises(UsageError, match=message):
        prepare.configure(samples, prepare.some_sizes(samples), {"data.geometry": "tiles"} | wishes, "quick")


def test_several_processes_are_refused(training: Training, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process"):
        objectives.objective_for(training.net, training.config, load(large))
