"""Memory is decided before training: counted without data, held to what really happens."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from resight.commands.train import bytes_of
from resight.errors import UsageError
from resight.models import create
from resight.recipes import TrainConfig
from resight.training import memory, needs, room
from resight.training.live import Peak, measure, measure_answering, peak_of
from resight.training.needs import GIB, Way, decoded_bytes, ways_of

from .tiny import digest, load, start, tiny_config, write_patterns


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patterns(tmp_path_factory.mktemp("room") / "data")


# ── counting ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("options", [{}, {"stochastic_depth": 0.5}])
def test_tensors_without_data_count_as_those_with(patterns: Path, checkpointing: bool, options: dict[str, Any]) -> None:
    config = tiny_config(patterns, {"model.options": {"stem": "tiny", **options}})
    counted = peak_of(config, 3, 4, checkpointing=checkpointing)
    net = create("resnet20", num_classes=3, stem="tiny", **options)
    net.checkpointing = checkpointing
    assert (counted.kept, counted.most) == measure(net, 4, 28)
    assert counted.weights == sum(p.nbytes for p in net.parameters())
    assert counted.state == sum(value.nbytes for value in net.state_dict().values())


def test_what_is_kept_is_what_autograd_saves(patterns: Path) -> None:
    """Beside a count by autograd's own hooks: the same, but for the scalars and inputs that only one of them sees."""
    net, saved = create("resnet20", num_classes=3, stem="tiny").to(memory_format=torch.channels_last), {}
    own = {value.untyped_storage().data_ptr() for value in net.state_dict().values()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(8, 3, 28, 28).contiguous(memory_format=torch.channels_last)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = net(images)
    counted = peak_of(tiny_config(patterns), 3, 8, checkpointing=False).kept
    assert logits.requires_grad
    assert counted == pytest.approx(sum(saved.values()) - images.nbytes, rel=0.02)


def test_frozen_parts_and_recomputing_keep_less(patterns: Path) -> None:
    def most(changes: dict[str, Any], checkpointing: bool = False) -> int:
        return peak_of(tiny_config(patterns, changes), 3, 32, checkpointing=checkpointing).most

    assert most({}, True) < 0.8 * most({})
    assert most({"model.freeze": "stage2"}) < 0.8 * most({})
    half, full = (tiny_config(patterns, {"precision": precision}) for precision in ("bf16", "fp32"))
    kept = [peak_of(config, 3, 8, checkpointing=False).kept for config in (half, full)]
    assert kept[0] < 0.6 * kept[1]


# ── deciding ───────────────────────────────────────────────────────────────────────────────────────────────────


def decided(
    data: Path, gibibytes: float, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any] | None = None, **wishes: Any
) -> tuple[TrainConfig, list[str]]:
    """What becomes of 64 pictures at a time that need 8 GiB, or 2 when activations are computed again."""

    def peak(config: TrainConfig, classes: int, pictures: int, *, checkpointing: bool) -> Peak:
        return Peak(0, pictures * GIB // (32 if checkpointing else 8), 0, 0)

    asked = {"batch": 64, "memory_gb": gibibytes, "data.cache_gb": 1.0, **(changes or {})}
    config, said = tiny_config(data, asked), []
    for name, value in {"peak_of": peak, "OVERHEAD": 1.0, "resident": lambda: 0, "FIRST": 0, "SEALING": 0}.items():
        monkeypatch.setattr(needs, name, value)
    monkeypatch.setattr(room, "resident", lambda: 0)
    room.decide(config, load(data), np.array([[28, 28]]), wishes, said.append)
    return config, said


def test_a_training_that_fits_is_left_alone(patterns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = decided(patterns, 9, monkeypatch)
    assert (config.model.checkpointing, config.micro_batch, config.data.cache_gb) == (False, 0, 1.0)
    assert len(said) == 1
    assert said[0].startswith("memory: about 8.0 GiB with 64 pictures at a time, 9.0 GiB are allowed (--memory)")


def test_without_a_wish_the_machine_decides_and_only_changes_are_said(
    patterns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "available", lambda: 20 * GIB)
    assert decided(patterns, 0, monkeypatch)[1] == []
    monkeypatch.setattr(room, "available", lambda: 6 * GIB)
    config, said = decided(patterns, 0, monkeypatch)
    assert config.model.checkpointing is True
    assert "5.4 GiB are there" in said[0]


def test_activations_are_computed_again_before_batches_are_cut(patterns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = decided(patterns, 5, monkeypatch)
    assert (config.model.checkpointing, config.micro_batch) == (True, 0)
    assert "without what follows about 8.0 GiB" in said[0]
    assert "times as long (measured" in said[0]
    config, said = decided(patterns, 1, monkeypatch)
    assert config.model.checkpointing is True
    assert 64 % config.micro_batch == 0
    assert config.micro_batch < 64
    assert f"BatchNorm sees {config.micro_batch} at once" in said[0]
    way = list(ways_of(tiny_config(patterns, {"batch": 64}), load(patterns)))
    assert [(w.checkpointing, w.micro_batch) for w in way[:3]] == [(False, 64), (True, 64), (True, 32)]


def test_wishes_are_kept(patterns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = decided(patterns, 9, monkeypatch, {"model.checkpointing": True})
    assert config.model.checkpointing is True
    assert "computed again" not in said[0]
    config, _ = decided(patterns, 5, monkeypatch, {"model.checkpointing": False})
    assert (config.model.checkpointing, config.micro_batch) == (False, 32)
    with pytest.raises(UsageError, match="64 pictures at a time") as refused:
        decided(patterns, 1, monkeypatch, {"micro_batch": 64})
    assert "without micro_batch" in str(refused.value.hint)


def test_fewer_decoded_pictures_come_first(patterns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "decoded_bytes", lambda config, *_: int(min(GIB, config.data.cache_gb * 1.25 * GIB)))
    config, said = decided(patterns, 8.5, monkeypatch)
    assert (config.model.checkpointing, config.micro_batch) == (False, 0)
    assert config.data.cache_gb == pytest.approx(0.5 / 1.25, abs=0.03)
    assert "of the decoded pictures" in said[0]
    config, _ = decided(patterns, 8.5, monkeypatch, **{"data.cache_gb": 1.0})
    assert (config.model.checkpointing, config.data.cache_gb) == (True, 1.0)


def test_what_fits_nowhere_is_refused_with_what_would(patterns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="one picture at a time, with checkpointing") as refused:
        decided(patterns, 0.02, monkeypatch)
    assert "--memory" in str(refused.value.hint)


def test_the_size_that_a_refusal_names_fits(patterns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(patterns, {"data.train_size": 112, "data.image_size": 112})
    monkeypatch.setattr(needs, "resident", lambda: 0)
    *_, last = ways_of(config, load(patterns))
    allowed = room.Room(last.fixed + (last.needed - last.fixed) // 2, True)
    hint = str(room._refusal(config, load(patterns), last, 0, allowed).hint)
    side = int(hint.split("--image-size ")[1])
    *_, smaller = ways_of(tiny_config(patterns, {"data.train_size": side, "data.image_size": side}), load(patterns))
    assert 28 <= side < 112
    assert smaller.needed <= allowed.bytes


def test_both_sizes_are_named_where_there_are_two(patterns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(patterns, {"data.train_size": 96, "data.image_size": 128})
    monkeypatch.setattr(needs, "resident", lambda: 0)
    *_, last = ways_of(config, load(patterns))
    hint = str(
        room._refusal(
            config, load(patterns), last, 0, room.Room(last.fixed + (last.needed - last.fixed) // 2, True)
        ).hint
    )
    (found,) = re.findall(r"--image-size (\d+) --set data.train_size=(\d+)", hint)
    answered, trained = map(int, found)
    assert 28 <= trained < answered < 128
    assert trained / answered == pytest.approx(96 / 128, rel=0.05)


def test_the_largest_moment_decides(patterns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update, a checkpoint that is written, or the seal: each where the others are small."""
    monkeypatch.setattr(needs, "resident", lambda: 0)
    config = tiny_config(patterns, {"optimizer.average_epochs": 0, "optimizer.name": "sgd"})

    def needed(kept: int = 0, weights: int = 0, answering: int = 0) -> int:
        return needs._most(config, Peak(kept, kept + weights, weights, weights, answering), 64, 64, 0, 0)[0]

    waiting = needed() - needs.SEALING
    assert waiting == 0  # the seal's libraries are more than the training's, where there is nothing to compute
    base = needed(kept=10 * GIB) - int(needs.OVERHEAD * 10 * GIB)
    assert needs.FIRST < base < needs.FIRST + 2**24
    assert needed(answering=10 * GIB) == needs.SEALING + int(needs.OVERHEAD * 10 * GIB)
    assert needed(weights=GIB) == needs.SEALING + int(needs.OVERHEAD * needs.COPIES * GIB)
    config = tiny_config(patterns, {"optimizer.average_epochs": 2, "optimizer.name": "adamw"})
    assert (
        needed(weights=GIB) > needs.FIRST + 9 * GIB
    )  # weights, two states, the average and its copy, and a file of four


def test_a_teacher_counts(patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(patterns)
    config.distill.teacher = str(tmp_path)
    card = SimpleNamespace(
        architecture=SimpleNamespace(name="resnet50", options={}),
        classes=("a", "b", "c"),
        channels=3,
        geometry=SimpleNamespace(size=64),
    )
    monkeypatch.setattr(needs.Run, "open", lambda path, verify: SimpleNamespace(card=card))
    weights, answering = needs._teacher(config, 4)
    net = create("resnet50", num_classes=3)
    assert weights == sum(value.nbytes for value in net.state_dict().values())
    assert answering == pytest.approx(measure_answering(net, 4, 64), rel=0.01)
    assert answering > 4 * 64 * 32 * 32 * 4  # the first convolution's own
    monkeypatch.setattr(needs, "SEALING", 0)
    alone = next(ways_of(tiny_config(patterns), load(patterns)))
    assert next(ways_of(config, load(patterns))).needed > alone.needed + weights


def test_the_size_that_is_answered_counts(patterns: Path) -> None:
    """In the seal, and in the updates of FixRes, where nothing is kept below the last norm."""
    small, large = ({"data.image_size": side} for side in (28, 224))

    def peak(changes: dict[str, Any], **more: Any) -> Peak:
        return peak_of(tiny_config(patterns, {**changes, **more}), 3, 4, checkpointing=False)

    assert peak(large).most == peak(small).most
    assert peak(large).answering > 40 * peak(small).answering
    fixed = peak(large, **{"data.fix_share": 0.1})
    assert fixed.most >= fixed.answering > peak(small).most


def test_decoded_pictures_are_counted_as_they_stay(patterns: Path) -> None:
    """A part that does not fit goes to the disk as a whole; FixRes keeps the part twice."""
    samples, sizes = load(patterns), np.array([[40, 40]])
    train, val = (len(samples.part(name)) for name in ("train", "val"))

    def decoded(**changes: Any) -> int:
        wishes = {"augment.crop": "none", "data.cache_gb": 1.0, "data.image_size": 36}
        return decoded_bytes(tiny_config(patterns, wishes | changes), samples, sizes)

    all_of_it = train * 3 * 28**2 + val * 3 * 36**2
    assert decoded() == all_of_it
    assert decoded(**{"data.fix_share": 0.1}) == all_of_it + train * 3 * 36**2
    half = {"data.cache_gb": train * 3 * 28**2 / 2 / GIB}
    quarter = int(train * 3 * 28**2 / 8)
    assert val * 3 * 36**2 > quarter
    assert decoded(**half, **{"data.disk_cache_gb": 1.0}) == 0
    assert decoded(**half, **{"data.disk_cache_gb": 0.0}) == pytest.approx(5 * quarter, abs=2)


def test_the_cost_in_time_is_measured_in_the_memory_there_is(patterns: Path) -> None:
    config = tiny_config(patterns, {"data.train_size": 112})
    assert room.cost_in_time(config, GIB).endswith("with 2 pictures of 112 px)")
    half = tiny_config(patterns, {"data.train_size": 56})
    most = 1.3 * peak_of(half, 2, 2, checkpointing=False).most
    assert room.cost_in_time(config, most).endswith("with 2 pictures of 56 px)")
    assert "no room" in room.cost_in_time(config, 2**10)


def test_validation_takes_no_more_pictures_at_a_time(
    patterns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 16 may be more than there is room for, where training takes 4."""
    training, seen = start(tmp_path / "run", patterns, {"micro_batch": 4, "total_steps": 1, "batch": 16}), []
    forward = training.net.forward

    def spy(images: Tensor) -> Tensor:
        seen.append(len(images))
        return forward(images)

    monkeypatch.setattr(training.net, "forward", spy)
    training.fit()
    assert max(seen) == 4


def test_no_updates_take_no_memory(patterns: Path) -> None:
    config = tiny_config(patterns, {"transfer.rung": "features"})
    room.decide(config, load(patterns), np.array([[28, 28]]), {}, pytest.fail)
    assert config.model.checkpointing is False


def test_ways_are_equal_only_where_nothing_changed() -> None:
    assert Way(False, 8, 1, 1) == Way(False, 8, 1, 1) != Way(True, 8, 1, 1)


# ── what the machine has ───────────────────────────────────────────────────────────────────────────────────────


def group(path: Path, names: tuple[str, str], limit: str, used: int, files: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=True):
        (path / name).write_text(f"{value}\n")
    (path / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_above_may_allow_less_than_the_machine_has(tmp_path: Path, version: int) -> None:
    names, base = (memory._V2, tmp_path) if version == 2 else (memory._V1, tmp_path / "memory")
    (tmp_path / "cgroup").write_text(
        "0::/job/step\n" if version == 2 else "5:cpu:/elsewhere\n4:memory:/job/step\n0::/\n"
    )
    free = memory.available(tmp_path / "cgroup", tmp_path)
    assert free > 2**20
    group(base / "job" / "step", names, "max" if version == 2 else str(2**63 - 4096), 100, 0)
    assert memory.available(tmp_path / "cgroup", tmp_path) == pytest.approx(free, rel=0.5)
    group(base / "job", names, str(1000), 700, 200)
    assert memory.available(tmp_path / "cgroup", tmp_path) == 500
    group(base / "job", names, str(1000), 1700, 200)
    assert memory.available(tmp_path / "cgroup", tmp_path) == 0


def test_sizes_of_memory_are_understood() -> None:
    for text, expected in {"8G": 8 * GIB, "1.5 GiB": 1.5 * GIB, "800m": 800 * 2**20, "8GB": 8e9, 5000: 5000}.items():
        assert bytes_of(text) == expected
    for text in ("", "G", "-1G", "8X", "0"):
        with pytest.raises(UsageError, match="is not a size"):
            bytes_of(text)


# ── the result ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_recomputing_changes_no_bit_of_a_training(patterns: Path, tmp_path: Path) -> None:
    """Weights, optimizer, average and history after twelve updates: norms count no batch twice, and branches are
    dropped alike when they are computed again."""
    found = []
    for checkpointing in (False, True):
        options = {"stem": "tiny", "stochastic_depth": 0.5}
        changes = {"model.options": options, "model.checkpointing": checkpointing}
        training = start(tmp_path / f"{checkpointing}", patterns, changes)
        assert training.net.checkpointing is checkpointing
        training.fit()
        found.append(digest(tmp_path / f"{checkpointing}"))
    assert found[0] == found[1]
