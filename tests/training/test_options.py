"""Every option has an effect: changing any field of the configuration changes something that can be observed.

A field without an entry here fails ``test_every_field_is_covered``: whoever adds one says how it is seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel
from torch import Tensor, nn

from resight.commands import resume as resuming
from resight.commands.start import start as make_run
from resight.errors import RunError, UsageError
from resight.models import create, spec_of
from resight.recipes import TrainConfig, override
from resight.recipes.effects import _ABOVE_ZERO, _BELOW_ONE, _GIVEN, _ONLY_WITH, check_effects
from resight.recipes.options import wishes_of
from resight.recipes.sections import PretrainConfig
from resight.runs import CHECKPOINTS, CONFIG, WEIGHTS, Run
from resight.training import fit, machine
from resight.training.augment import apply
from resight.training.checkpoint import found
from resight.training.fit import Training
from resight.training.signals import StopRequest
from resight.training.validate import Validation

from .tiny import Recorder, load, pattern, start, tiny_config, tiny_teacher, write_patterns


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patterns that are no squares, and larger than the network's pictures."""
    return write_patterns(tmp_path_factory.mktemp("wide") / "data", height=40, width=52)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with classes of different size."""
    return write_patterns(tmp_path_factory.mktemp("uneven") / "data", (40, 15, 5), height=40, width=52)


def sha(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


# ── what can be seen of a training ─────────────────────────────────────────────────────────────────────────────


def batch_pixels(training: Training) -> str:
    """Augmented pictures of the first twelve batches."""
    batches = [training.loader.make(step) for step in range(12)]
    return sha(*(apply(training.config.augment, b.pixels, b.parameters) for b in batches))


def network_input(training: Training) -> str:
    """What the network is given: pictures and, through the loss, their targets, for four batches."""
    seen: list[Tensor] = []

    class Spy(nn.Module):
        num_classes = 3

        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return torch.arange(3.0).expand(len(images), 3)

    training.objective.net = Spy()
    losses = [training.objective(training.loader.make(step))[0] for step in range(4)]
    return sha(*seen, *losses)


def trained(training: Training) -> str:
    """Weights and their average after four updates."""
    for step in range(4):
        training.update(training.loader.make(step))
    average = training.average.state.values() if training.average else []
    return sha(*training.net.state_dict().values(), *average)


def validated(training: Training) -> str:
    return sha(*(torch.tensor(training.val[i]) for i in range(len(training.val))))


def initial(training: Training) -> str:
    return sha(*training.net.state_dict().values())


Observed = Callable[[Training], str]
TILED: dict[str, Any] = {
    "data.geometry": "tiles",
    "model.options": {"stem": "tiny", "attention": 4},
    "augment.crop": "none",
    "tiles.side": 20,
    "tiles.stride": 8,
    "tiles.bag": 4,
}
# field: (what the change needs, the changed value, what is observed)
SEEN: dict[str, tuple[dict[str, Any], Any, Observed]] = {
    "model.name": ({}, "resnet32", initial),
    "model.options": ({}, {"stem": "cifar"}, trained),
    "model.zero_gamma": ({}, True, initial),
    "model.freeze": ({}, "stem", trained),
    "model.norms": ({}, "frozen", trained),
    "optimizer.layer_decay": ({}, 0.5, trained),
    "data.image_size": ({}, 32, validated),
    "model.whitening": ({}, True, initial),
    "data.train_size": ({}, 32, batch_pixels),
    "data.start_scale": ({}, 0.75, network_input),
    "data.grow_until": ({"data.train_size": 40, "data.start_scale": 0.7}, 0.2, network_input),
    "data.fix_share": ({}, 0.9, trained),
    "data.geometry": ({}, "letterbox", validated),
    "data.crop_ratio": ({}, 0.8, validated),
    "data.interpolation": ({}, "bicubic", validated),
    "data.mean": ({}, [0.1, 0.2, 0.3], network_input),
    "data.std": ({}, [0.1, 0.2, 0.3], network_input),
    "data.channels": ({"data.mean": [0.3], "data.std": [0.3]}, 1, initial),
    "augment.crop": ({}, "none", batch_pixels),
    "augment.crop_from": ({"augment.crop": "resized", "data.geometry": "letterbox"}, "picture", batch_pixels),
    "augment.scale_min": ({"augment.crop": "resized"}, 0.1, batch_pixels),
    "augment.scale_max": ({"augment.crop": "resized"}, 0.9, batch_pixels),
    "augment.shift": ({}, 5, batch_pixels),
    "augment.shift_padding": ({}, "zero", batch_pixels),
    "augment.flip": ({}, "none", batch_pixels),
    "augment.policy": ({}, "trivial", batch_pixels),
    "augment.rand_count": ({"augment.policy": "rand"}, 3, batch_pixels),
    "augment.rand_magnitude": ({"augment.policy": "rand"}, 20, batch_pixels),
    "augment.color": ({}, 0.3, batch_pixels),
    "augment.hue": ({}, 0.3, batch_pixels),
    "augment.color_share": ({"augment.color": 0.5}, 0.3, batch_pixels),
    "augment.gray": ({}, 0.5, batch_pixels),
    "augment.blur": ({"data.image_size": 112, "data.train_size": 112}, 1.0, batch_pixels),
    "augment.erasing": ({}, 0.5, batch_pixels),
    "augment.mixup": ({}, 0.3, network_input),
    "augment.cutmix": ({}, 1.0, network_input),
    "optimizer.name": ({}, "adamw", trained),
    "optimizer.lr": ({}, 0.01, trained),
    "optimizer.momentum": ({}, 0.5, trained),
    "optimizer.muon_scale": ({"optimizer.name": "muon"}, 0.1, trained),
    "optimizer.nesterov": ({}, False, trained),
    "optimizer.beta2": ({"optimizer.name": "adamw"}, 0.9, trained),
    "optimizer.weight_decay": ({}, 0.1, trained),
    "optimizer.decay_norms": ({"optimizer.weight_decay": 0.1}, True, trained),
    "optimizer.clip": ({}, 0.01, trained),
    "optimizer.average_epochs": ({}, 0.2, trained),
    "schedule.name": ({}, "constant", trained),
    "schedule.warmup": ({}, 0.5, trained),
    "schedule.warmup_rate": ({}, 0.5, trained),
    "schedule.milestones": ({"schedule.name": "step"}, [0.1], trained),
    "schedule.gamma": ({"schedule.name": "step", "schedule.milestones": [0.1]}, 0.5, trained),
    "balance.weights": ({}, "sqrt", network_input),
    "balance.beta": ({"balance.weights": "effective"}, 0.5, network_input),
    "balance.sampling": ({}, "balanced", batch_pixels),
    "balance.logit_adjustment": ({}, 0.5, network_input),
    "tiles.side": (TILED, 24, trained),
    "tiles.stride": (TILED, 10, trained),
    "tiles.bag": (TILED, 6, trained),
    "tiles.drawn": (TILED, 1.0, trained),
    "loss": ({}, "bce", network_input),
    "focal_gamma": ({"loss": "focal"}, 1.0, network_input),
    "label_smoothing": ({}, 0.2, network_input),
    "batch": ({}, 4, batch_pixels),
    "micro_batch": ({}, 4, trained),
    "seed": ({}, 1, batch_pixels),
    "precision": ({}, "bf16", trained),
    "total_steps": ({}, 24, trained),  # the schedule is stretched over it
}


@pytest.mark.parametrize("field", SEEN)
def test_changing_a_field_changes_what_is_trained(field: str, wide: Path, uneven: Path, tmp_path: Path) -> None:
    needs, value, observe = SEEN[field]
    data = uneven if field.startswith("balance.") else wide
    before = observe(start(tmp_path / "before", data, {} if field == "data.channels" else needs))
    after = observe(start(tmp_path / "after", data, needs | {field: value}))
    assert after != before
    repeated = observe(start(tmp_path / "repeated", data, needs | {field: value}))
    assert after == repeated  # the observation itself is no dice


# ── what is seen in other ways ─────────────────────────────────────────────────────────────────────────────────


def made(data: Path, out: Path, wishes: dict[str, Any], recipe: str | None = None) -> tuple[Run, TrainConfig]:
    base = {"model.name": "resnet20", "device": "cpu", "data.workers": 0, "threads": 1}
    run = make_run(data, base | wishes, recipe, out, lambda _: None)
    return run, TrainConfig.from_json(run.file(CONFIG).read_bytes(), "config.json")


def check_recipe(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    _, config = made(wide, tmp_path / "run", {}, "he2015-cifar")
    assert (config.recipe, config.schedule.name) == ("he2015-cifar", "step")


def check_weights(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(77)
    donor = create("resnet20", num_classes=3, stem="tiny")
    save_file(donor.state_dict(), tmp_path / "donor.safetensors")
    config = tiny_config(wide, {"model.weights": str(tmp_path / "donor.safetensors")})
    run = start(tmp_path / "run", wide).run
    training = resuming.build_training(run, config, load(wide), Recorder(), fresh=True)
    for name, value in donor.state_dict().items():
        assert torch.equal(training.net.state_dict()[name], value)


def check_checkpointing(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    calls = []
    for on in (False, True):
        training = start(tmp_path / str(on), wide, {"model.checkpointing": on})
        count = [0]

        def counted(*_: Any, count: list[int] = count) -> None:
            count[0] += 1

        training.net.blocks[0].register_forward_pre_hook(counted)
        training.update(training.loader.make(0))
        calls.append(count[0])
    assert calls == [1, 2]  # computed again for backward


def check_path(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    _, config = made(wide, tmp_path / "run", {})
    assert Path(config.data.path) == wide.resolve()


def check_fractions(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    run, _config = made(wide, tmp_path / "run", {"data.val_fraction": 0.3, "data.test_fraction": 0.2})
    assert run.card.data["counts"] == {"train": 30, "val": 18, "test": 12}


def check_skip_bad(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    data = write_patterns(tmp_path / "data")
    (data / "rows" / "00.png").write_bytes(b"")
    with pytest.raises(Exception, match="cannot be read"):
        made(data, tmp_path / "refused", {})
    run, _config = made(data, tmp_path / "run", {"data.skip_bad": True})
    assert len(run.card.data["skipped"]) == 1


def check_workers(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[int, set[str]] = {}
    for workers in (0, 2):
        training = start(tmp_path / str(workers), wide, {"data.workers": workers})
        read, seen = training.loader.pictures._read, names.setdefault(workers, set())

        def spy(sample: Any, read: Any = read, seen: set[str] = seen) -> Any:
            seen.add(threading.current_thread().name)
            return read(sample)

        monkeypatch.setattr(training.loader.pictures, "_read", spy)
        list(training.loader.batches(0, 6))
    assert names[0] == {threading.main_thread().name}
    assert all(name.startswith("resight-loader") for name in names[2])


def check_cache(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    kept = []
    for size in (0.0, 1.0):
        training = start(tmp_path / str(size), wide, {"data.cache_gb": size, "data.disk_cache_gb": 0})
        pictures = training.loader.pictures
        kept.append(pictures[0] is pictures[0])
    assert kept == [False, True]


def check_disk_cache(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIGHT_CACHE", str(tmp_path / "cache"))
    found = []
    for size in (0.0, 0.1):
        training = start(tmp_path / str(size), wide, {"data.cache_gb": 0, "data.disk_cache_gb": size})
        training.loader.make(0)
        found.append(len(list((tmp_path / "cache").rglob("pixels"))))
    assert found == [0, 1]


def check_geometry_version(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large JPEGs, so that version 2 decodes them at 1/2: it is seen in training, validation and the Run's card."""
    data, seen = tmp_path / "data", []
    for path in sorted(wide.rglob("*.png")):
        (data / path.parent.name).mkdir(parents=True, exist_ok=True)
        picture = Image.open(path).resize((130, 110), Image.Resampling.BICUBIC)
        picture.save(data / path.parent.name / f"{path.stem}.jpg")
    for version in (1, 2):
        changes = {"data.geometry_version": version}
        kept = start(tmp_path / f"{version}", data, changes)
        crops = start(tmp_path / f"{version} crops", data, {**changes, "augment.crop": "resized"})
        seen += [validated(kept), batch_pixels(kept), batch_pixels(crops)]
        run, config = made(data, tmp_path / f"{version} made", changes)
        assert run.card.geometry.version == config.data.geometry_version == version
        resuming._same_settings(run, config)
    assert len(set(seen)) == 6
    card = made(data, tmp_path / "older", {"data.geometry_version": 1})[0]
    plain = json.loads(card.file(CONFIG).read_bytes())
    del plain["data"]["geometry_version"]  # as it was written when there was one version only
    card.file(CONFIG).write_text(json.dumps(plain))
    resuming._same_settings(card, resuming._config(card))


def check_epochs(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    _, config = made(wide, tmp_path / "run", {"epochs": 2.5, "batch": 8})
    assert config.total_steps == 15  # six steps an epoch


def check_budget(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resight.training import estimate

    asked: list[float] = []
    monkeypatch.setattr(estimate, "steps_for", lambda training, seconds: asked.append(seconds) or 18)
    run, config = made(wide, tmp_path / "run", {"budget_seconds": 30, "batch": 8})
    assert config.total_steps == 0
    training = resuming.build_training(run, config, load(wide), Recorder(), fresh=True)
    frozen = TrainConfig.from_json(run.file(CONFIG).read_bytes(), "config.json")
    assert (asked, training.config.total_steps, frozen.total_steps, frozen.epochs) == ([30.0], 18, 18, 3.0)


def check_auto_batch(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pictures at a time come before activations that are computed again. A tiny network is made to need 8 GiB,
    or about 5 when they are."""
    from resight.training import needs, room
    from resight.training.live import peak_of

    config = tiny_config(wide, {"data.train_size": 32, "model.options": {}})
    monkeypatch.setattr(needs, "OVERHEAD", 8 * 2**30 / peak_of(config, 3, 16, checkpointing=False).most)
    monkeypatch.setattr(needs, "resident", lambda: 0)
    monkeypatch.setattr(needs, "FIRST", 0)
    monkeypatch.setattr(needs, "SEALING", 0)
    monkeypatch.setattr(room, "cost_in_time", lambda *_: "")
    for auto, expected in ((True, (False, 8)), (False, (True, 0))):
        wishes = {"auto_batch": auto, "batch": 16, "memory_gb": 6.5, "data.cache_gb": 0, "data.image_size": 32}
        _, config = made(wide, tmp_path / f"run-{auto}", wishes)
        assert (config.model.checkpointing, config.micro_batch) == expected


def check_patience(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    ends = []
    for patience in (0, 1):
        changes = {"patience": patience, "total_steps": 48, "optimizer.lr": 1e-9, "optimizer.average_epochs": 0}
        training = start(tmp_path / str(patience), wide, changes)
        training.fit()
        ends.append(training.state.step)
    assert ends[1] < ends[0] == 48


def check_select(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch has the better accuracy, the second one the better mean recall."""
    best = []
    for select in ("accuracy", "balanced"):
        results = iter([Validation(np.zeros((6, 3)), 0.9, 1.0, 0.4), Validation(np.zeros((6, 3)), 0.8, 1.0, 0.5)])
        monkeypatch.setattr(fit, "validate", lambda *_, results=results: next(results))
        training = start(tmp_path / select, wide, {"select": select})
        training.fit()
        best.append(training.state.best_step)
        assert [e.get("val_recall") for e in training.state.history] == [[None, None], [0.4, 0.5]][len(best) - 1]
    assert best == [6, 12]


def check_teacher(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    run = tiny_teacher(tmp_path / "teacher")
    named = {"distill.teacher": str(run.path)}
    changes: list[dict[str, Any]] = [{}, named, {**named, "distill.weight": 0.9}, {**named, "distill.temperature": 1}]
    seen = [trained(start(tmp_path / f"{number}", wide, change)) for number, change in enumerate(changes)]
    assert len(set(seen)) == 4
    with pytest.raises(RunError, match="is another one"):
        start(tmp_path / "other", wide, {**named, "distill.sha256": "0" * 64})
    start(tmp_path / "same", wide, {**named, "distill.sha256": run.card.files[WEIGHTS]})


def check_compile(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    plain = start(tmp_path / "plain", wide)
    compiled = start(tmp_path / "compiled", wide, {"compile": True})
    compiled.compile()
    assert [t.net._compiled_call_impl is not None for t in (plain, compiled)] == [False, True]
    assert list(compiled.net.state_dict()) == list(plain.net.state_dict())
    assert (
        compiled.evaluate(StopRequest(print)).loss == plain.evaluate(StopRequest(print)).loss
    )  # without compiling anything


def check_device(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert machine.resolve_device("auto") == "cpu"
    with pytest.raises(UsageError, match="use one of: cpu"):
        made(wide, tmp_path / "run", {"device": "cuda"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert machine.resolve_device("auto") == "cuda"


def check_threads(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        run, config = made(wide, tmp_path / "run", {"threads": 3})
        assert (config.threads, run.card.threads) == (3, 3)
        machine.set_threads(1)
        resuming.build_training(run, config, load(wide), Recorder(), fresh=True)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def saves(wide: Path, path: Path, changes: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Steps at which a checkpoint was written, and those that are left."""
    training, steps = start(path, wide, changes), []
    with pytest.MonkeyPatch.context() as patch:
        save = fit.save_checkpoint

        def spy(directory: Path, checkpoint: Any, keep: int) -> Path:
            steps.append(checkpoint.state.step)
            return save(directory, checkpoint, keep)

        patch.setattr(fit, "save_checkpoint", spy)
        training.fit()
    left = [int(checkpoint.name[5:13]) for checkpoint in found(path / CHECKPOINTS)]
    return steps, left


def check_saves(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    assert saves(wide, tmp_path / "epochs", {})[0] == [0, 6, 12]
    assert saves(wide, tmp_path / "steps", {"save_steps": 4})[0] == [0, 4, 6, 8, 12]
    every, left = saves(wide, tmp_path / "minutes", {"save_minutes": 1e-9, "keep": 3})
    assert every == list(range(13))
    assert left[:3] == [12, 11, 10]
    assert set(left) <= {12, 11, 10, 6}  # the best is kept as well


def check_tensorboard(wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = start(tmp_path / "run", wide, {"total_steps": 2})
    changed = override(training.config, {"tensorboard": True})
    resuming._fit(training.run, changed, load(wide), Recorder())
    assert [name for name in os.listdir(tmp_path / "run" / "tensorboard") if "tfevents" in name]
    with monkeypatch.context() as patch:
        patch.setattr("resight.commands.extras.find_spec", lambda name: None if name == "tensorboard" else name)
        with pytest.raises(UsageError, match=r"resight\[tensorboard\]"):
            made(wide, tmp_path / "other", {"tensorboard": True})


def check_rung(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(create("resnet20", num_classes=3).state_dict(), weights)
    with pytest.raises(UsageError, match="starts from weights that were trained before"):
        made(wide, tmp_path / "none", {"transfer.rung": "lpft"})
    steps = {
        rung: made(wide, tmp_path / rung, {"model.weights": str(weights), "transfer.rung": rung})[1].total_steps
        for rung in ("none", "lpft", "features")
    }
    assert steps["none"] == steps["lpft"] > 0 == steps["features"]


def check_folds(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    """What they choose: tests/transfer/test_weighing.py."""
    with pytest.raises(UsageError, match=r"transfer\.folds has no effect"):
        made(wide, tmp_path / "run", {"transfer.folds": 3})


def check_task(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="task is what the data say"):
        made(wide, tmp_path / "run", {"task": "multi", "loss": "bce", "label_smoothing": 0})


def check_tiles(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    """How wide the attention is, and what it starts with."""
    base = {"data.geometry": "tiles", "data.image_size": 28, "model.options.stem": "tiny", "batch": 8}
    seen = {}
    for name, more in {"default": {}, "narrow": {"tiles.attention": 5}, "chance": {"tiles.start": "random"}}.items():
        run, config = made(wide, tmp_path / name, base | more)
        training = resuming.build_training(run, config, load(wide), Recorder(), fresh=True)
        seen[name] = training.net.attention.V.weight
        assert run.card.architecture.options["attention"] == config.tiles.attention
    assert seen["narrow"].shape == (5, 64)
    assert seen["default"].shape == seen["chance"].shape == (64, 64)
    assert not torch.equal(seen["default"], seen["chance"])


def check_pretrain(wide: Path, tmp_path: Path, _: pytest.MonkeyPatch) -> None:
    """What they do: tests/pretraining/test_options.py."""
    for name in PretrainConfig.model_fields:
        with pytest.raises(UsageError, match="belongs to resight pretrain"):
            wishes_of({}, {f"pretrain.{name}": 1})


CHECKED: dict[str, Callable[[Path, Path, pytest.MonkeyPatch], None]] = {
    **{f"pretrain.{name}": check_pretrain for name in PretrainConfig.model_fields},
    "recipe": check_recipe,
    "task": check_task,
    "transfer.rung": check_rung,
    "transfer.head": check_rung,
    "transfer.folds": check_folds,
    "model.weights": check_weights,
    "model.checkpointing": check_checkpointing,
    "tiles.attention": check_tiles,
    "tiles.start": check_tiles,
    "data.path": check_path,
    "data.val_fraction": check_fractions,
    "data.test_fraction": check_fractions,
    "data.skip_bad": check_skip_bad,
    "data.workers": check_workers,
    "data.cache_gb": check_cache,
    "data.disk_cache_gb": check_disk_cache,
    "data.geometry_version": check_geometry_version,
    "epochs": check_epochs,
    "budget_seconds": check_budget,
    "auto_batch": check_auto_batch,
    "memory_gb": check_auto_batch,
    "patience": check_patience,
    "select": check_select,
    "distill.teacher": check_teacher,
    "distill.sha256": check_teacher,
    "distill.weight": check_teacher,
    "distill.temperature": check_teacher,
    "compile": check_compile,
    "device": check_device,
    "threads": check_threads,
    "save_minutes": check_saves,
    "save_steps": check_saves,
    "keep": check_saves,
    "tensorboard": check_tensorboard,
}


@pytest.mark.parametrize("check", sorted(set(CHECKED.values()), key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_other_fields(
    check: Callable[[Path, Path, pytest.MonkeyPatch], None],
    wide: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check(wide, tmp_path, monkeypatch)


def fields_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += fields_of(kind, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def test_every_field_is_covered() -> None:
    assert sorted([*SEEN, *CHECKED]) == sorted(fields_of(TrainConfig))


# ── options that another one decides over ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", _ONLY_WITH)
def test_an_option_without_effect_is_refused(name: str) -> None:
    other, useful = _ONLY_WITH[name]
    useless: dict[str, Any] = {
        "augment.crop": "none",
        "augment.policy": "none",
        "optimizer.name": "lamb" if name == "optimizer.nesterov" else "sgd",
        "data.start_scale": 1,
        "schedule.name": "cosine",
        "schedule.warmup": 0,
        "data.geometry": "squash",
        "save_steps": 5,
        "micro_batch": 4,
        "budget_seconds": 60,
        "balance.weights": "sqrt",
        "loss": "bce",
        "distill.weight": 1,
        "distill.teacher": None,
        "model.freeze": "backbone",
        "transfer.rung": "none",
    }
    config = override(TrainConfig(), {other: useless[other]})
    with pytest.raises(UsageError, match=rf"{name} has no effect while {other} is"):
        check_effects(config, {name: 1})
    works = 0.5 if useful in (_BELOW_ONE, _ABOVE_ZERO) else "runs/a" if useful is _GIVEN else useful[0]
    more = {"data.geometry": "squash"} if name == "augment.crop_from" else {}
    check_effects(override(TrainConfig(), {other: works, **more}), {name: 1})


def test_an_option_that_two_decide_over_is_refused_by_each() -> None:
    works = {"augment.crop": "resized", "data.geometry": "squash"}
    check_effects(override(TrainConfig(), works), {"augment.crop_from": "picture"})
    for name, useless in (("augment.crop", "none"), ("data.geometry", "crop")):
        with pytest.raises(UsageError, match=rf"augment.crop_from has no effect while {name} is {useless}"):
            check_effects(override(TrainConfig(), {**works, name: useless}), {"augment.crop_from": "picture"})


SEEN_BY_THE_PROBE = {
    *("recipe", "task", "transfer.rung", "model.name", "model.options", "model.weights", "model.zero_gamma"),
    *("model.whitening", "augment.flip", "select", "seed", "device", "precision", "threads"),
    *(f"data.{name}" for name in ("path", "image_size", "geometry", "geometry_version", "crop_ratio")),
    *(f"data.{name}" for name in ("interpolation", "mean", "std", "channels", "val_fraction", "test_fraction")),
    *(f"data.{name}" for name in ("cache_gb", "disk_cache_gb", "workers", "skip_bad")),
}


@pytest.mark.parametrize("name", fields_of(TrainConfig))
def test_without_updates_what_only_they_would_use_is_refused(name: str) -> None:
    config = override(TrainConfig(), {"transfer.rung": "features"})
    if name in SEEN_BY_THE_PROBE:
        check_effects(config, {name: 1})
        return
    with pytest.raises(UsageError, match=rf"{name} has no effect with transfer\.rung=features"):
        check_effects(config, {name: 1})


def test_seeds_reach_the_draws_inside_the_network(wide: Path, tmp_path: Path) -> None:
    """Stochastic depth with the same weights and pictures, and another seed."""
    assert spec_of("resnet20", stochastic_depth=0.5).stochastic_depth == 0.5
    outcomes = []
    for seed in (0, 1):
        training = start(tmp_path / str(seed), wide, {"model.options.stochastic_depth": 0.5})
        batch = training.loader.make(0)
        training.config.seed = seed
        training.update(batch)
        outcomes.append(sha(*training.net.parameters()))
    assert outcomes[0] != outcomes[1]


def test_grey_pictures_are_found_to_be_grey(tmp_path: Path) -> None:
    for kind in ("rows", "columns"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for number in range(10):
            pixels = pattern(kind, number)[:, :, 0]
            Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "data" / kind / f"{number}.png")
    run, config = made(tmp_path / "data", tmp_path / "run", {})
    assert (config.data.channels, run.card.channels, len(config.data.mean)) == (1, 1, 1)
