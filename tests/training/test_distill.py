"""Learning from a teacher: the loss against closed forms, what the teacher sees, and that it stays what it is."""

from __future__ import annotations

import copy
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from resight.errors import RunError, UsageError
from resight.evaluation import log_softmax
from resight.models import network_of
from resight.recipes import TrainConfig, check_effects, override
from resight.runs import CARD, ONNX, WEIGHTS, Run
from resight.training.batches import split
from resight.training.distill import Distilled, Teacher, adopted, open_teacher, with_channels
from resight.training.losses import distillation
from resight.training.objective import Normalize
from resight.training.signals import StopRequest

from .test_resume import killed_at
from .tiny import CLASSES, SIDE, digest, last, pattern, start, tiny_config, tiny_teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_teacher(tmp_path_factory.mktemp("teachers") / "run")


def taught(path: Path, data: Path, run: Run, **changes: Any) -> Any:
    return start(path, data, {"distill.teacher": str(run.path), **changes})


# ── the loss ───────────────────────────────────────────────────────────────────────────────────────────────────


def random_logits(rows: int = 6, classes: int = 5) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(4)
    return tuple(3 * torch.randn(rows, classes, generator=made).double() for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_written_out(temperature: float) -> None:
    student, teacher = random_logits()
    total = 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(x / temperature) / sum(math.exp(y / temperature) for y in theirs) for x in theirs]
        q = [math.exp(x / temperature) / sum(math.exp(y / temperature) for y in ours) for x in ours]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert distillation(student, teacher, temperature).item() == pytest.approx(temperature**2 * total / 6, rel=1e-9)


def test_closed_forms_of_the_divergence() -> None:
    student, teacher = random_logits()
    assert distillation(teacher, teacher + 7, 2.0).item() == pytest.approx(0, abs=1e-12)  # a shift says nothing
    certain = torch.tensor([[400.0, 0, 0, 0]])
    assert distillation(torch.zeros(1, 4), certain, 1.0).item() == pytest.approx(math.log(4), rel=1e-6)
    # Hinton et al. 2015, eq. 4: at high temperature half the mean square of centred logits' differences.
    gap = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert distillation(student, teacher, 1e4).item() == pytest.approx((gap**2).mean(1).mean().item() / 2, rel=1e-3)


def test_the_gradient_is_the_difference_of_probabilities() -> None:
    """Hinton et al. 2015, eq. 2, times T²: T · (q − p)."""
    student, teacher = random_logits()
    student.requires_grad_()
    distillation(student, teacher, 3.0).backward()
    expected = 3.0 * ((student / 3).softmax(1) - (teacher / 3).softmax(1)) / 6
    torch.testing.assert_close(student.grad, expected.detach())


def test_the_loss_is_shared_between_labels_and_teacher(patterns: Path, teacher: Run, tmp_path: Path) -> None:
    settings = {"label_smoothing": 0.1, "augment.mixup": 0.5, "distill.weight": 0.3, "distill.temperature": 2.0}
    training = taught(tmp_path / "run", patterns, teacher, **settings)
    objective, batch = training.objective, training.loader.make(0)
    assert isinstance(objective, Distilled)
    state = copy.deepcopy(training.net.state_dict())
    loss, logs = objective(batch)
    training.net.load_state_dict(state)
    inputs = objective.labels.inputs(batch)
    logits = training.net(inputs.images)
    by_label = F.cross_entropy(logits, inputs.targets)
    by_teacher = distillation(logits, objective.teacher(inputs.images), 2.0)
    assert loss.item() == pytest.approx(0.7 * by_label.item() + 0.3 * by_teacher.item(), rel=1e-6)
    assert logs["loss"].item() == pytest.approx(8 * loss.item(), rel=1e-6)
    assert logs["correct"].item() == (logits.argmax(1) == batch.labels).sum()


def test_at_weight_one_labels_teach_nothing(patterns: Path, teacher: Run, tmp_path: Path) -> None:
    grads = []
    for shift in (0, 1):
        training = taught(tmp_path / f"{shift}", patterns, teacher, **{"distill.weight": 1})
        batch = training.loader.make(0)
        batch.labels = (batch.labels + shift) % 3
        training.objective(batch)[0].backward()
        grads.append(training.net.fc.weight.grad)
    assert torch.equal(*grads)
    config = training.config
    for wish in ({"label_smoothing": 0.1}, {"loss": "focal"}, {"balance.weights": "sqrt"}):
        with pytest.raises(UsageError, match=r"has no effect while distill.weight is 1"):
            check_effects(override(config, wish), wish)


# ── the teacher ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_teacher_learns_nothing(patterns: Path, teacher: Run, tmp_path: Path) -> None:
    training = taught(tmp_path / "run", patterns, teacher, total_steps=6, micro_batch=3)
    net = training.objective.teacher.net
    before = {name: value.clone() for name, value in net.state_dict().items()}
    training.objective.train()  # whoever asks for it
    assert not any(module.training for module in training.objective.teacher.modules())
    training.fit()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    own = [m for m in training.net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(int(module.num_batches_tracked) > 0 for module in own)
    optimized = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in training.net.parameters()}


def test_a_checkpoint_holds_the_student_alone(patterns: Path, teacher: Run, tmp_path: Path) -> None:
    training = taught(tmp_path / "run", patterns, teacher, total_steps=2)
    training.fit()
    checkpoint = last(tmp_path / "run")
    assert checkpoint.weights.keys() == checkpoint.average.keys() == training.net.state_dict().keys()
    assert training.average is not None
    assert training.average.state.keys() == training.net.state_dict().keys()


def asked(run: Run, pixels: Tensor) -> Tensor:
    """What a Run's network answers to pictures of its own size, uint8 or float 0 … 255 (N, C, S, S)."""
    net = network_of(run).eval()
    with torch.no_grad():
        answers: Tensor = net(Normalize(run.card.mean, run.card.std)(pixels))
    return answers


def some_pictures(size: int = SIDE) -> Tensor:
    made = [pattern(kind, 7 + k, size, size) for k, kind in enumerate(("rows", "checks", "columns"))]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)


def test_the_teacher_sees_pictures_with_its_own_normalisation(patterns: Path, teacher: Run) -> None:
    config = tiny_config(patterns)
    pixels = some_pictures()
    images = Normalize(config.data.mean, config.data.std)(pixels)
    found = Teacher(teacher, config, CLASSES)(images)
    torch.testing.assert_close(found, asked(teacher, pixels), rtol=1e-4, atol=1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize("size", [32, 40])
def test_the_teacher_sees_pictures_at_its_own_size(size: int, patterns: Path, tmp_path: Path) -> None:
    run = tiny_teacher(tmp_path / "run", size=size)
    config = tiny_config(patterns)
    pixels = some_pictures()
    found = Teacher(run, config, CLASSES)(Normalize(config.data.mean, config.data.std)(pixels))
    wide = F.interpolate(pixels.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(found, asked(run, wide), rtol=1e-4, atol=1e-5)


def test_grey_and_colour_stand_for_each_other(patterns: Path, tmp_path: Path) -> None:
    pixels = some_pictures()
    grey = with_channels(pixels.float(), 1)
    for picture, found in zip(pixels, grey, strict=True):
        luma = np.asarray(Image.fromarray(picture.permute(1, 2, 0).numpy()).convert("L"), float)
        assert np.abs(found[0].numpy() - luma).max() <= 0.5 + 1e-4  # Pillow rounds
    assert torch.equal(with_channels(grey, 3), grey.repeat(1, 3, 1, 1))
    assert with_channels(grey, 1) is grey
    run = tiny_teacher(tmp_path / "grey", channels=1, mean=(0.4,), std=(0.2,))
    config = tiny_config(patterns)
    found = Teacher(run, config, CLASSES)(Normalize(config.data.mean, config.data.std)(pixels))
    torch.testing.assert_close(found, asked(run, grey), rtol=1e-4, atol=1e-5)


def test_the_teacher_sees_what_the_student_sees(patterns: Path, tmp_path: Path) -> None:
    """The same random changes, mixed in the same way (Beyer et al. 2022)."""
    config = tiny_config(patterns)
    alike = tiny_teacher(tmp_path / "alike", mean=tuple(config.data.mean), std=tuple(config.data.std))
    mixing = {"augment.mixup": 0.5, "augment.cutmix": 1.0, "augment.color": 0.3, "augment.policy": "trivial"}
    training = taught(tmp_path / "run", patterns, alike, **mixing)
    seen: list[Tensor] = []
    for net in (training.net, training.objective.teacher.net):
        net.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    for part in split(training.loader.make(3), 5):
        training.objective(part)
    assert len(seen) == 4
    for ours, theirs in (seen[:2], seen[2:]):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


def test_classes_are_matched_by_name(patterns: Path, teacher: Run, tmp_path: Path) -> None:
    net = network_of(teacher)
    order = [2, 0, 1]
    with torch.no_grad():
        net.fc.weight.copy_(net.fc.weight[order].clone())
        net.fc.bias.copy_(net.fc.bias[order].clone())
    turned = tiny_teacher(tmp_path / "other", [CLASSES[k] for k in order], net)
    losses = []
    for name, run in (("as", teacher), ("turned", turned)):
        training = taught(tmp_path / name, patterns, run, **{"total_steps": 6, "distill.weight": 1})
        training.fit()
        losses.append(training.report.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


# ── resuming ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_killed_training_with_a_teacher_goes_on_to_the_same_bits(
    patterns: Path, teacher: Run, tmp_path: Path
) -> None:
    changes = {"distill.teacher": str(teacher.path), "augment.mixup": 0.4, "data.workers": 2, "save_steps": 4}
    start(tmp_path / "straight", patterns, changes).fit()
    assert killed_at(tmp_path / "killed", patterns, [3, 9], changes) == digest(tmp_path / "straight")


def config_of(run: Run, path: Path, sha256: str = "") -> TrainConfig:
    return override(TrainConfig(), {"distill.teacher": str(path), "distill.sha256": sha256})


def test_who_teaches_is_recorded(teacher: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(teacher.path.parent)
    said: list[str] = []
    found = adopted(config_of(teacher, Path(teacher.path.name)), CLASSES, said.append)
    assert found == {"distill.teacher": str(teacher.path), "distill.sha256": teacher.card.files[WEIGHTS]}
    assert "resnet20 at 28 px" in said[0]
    assert adopted(TrainConfig(), CLASSES, said.append) == {}


def test_a_teacher_that_is_gone_or_another_one(teacher: Run, tmp_path: Path) -> None:
    digest = teacher.card.files[WEIGHTS]
    with pytest.raises(RunError, match=r"the teacher cannot be used: .* is not a Run") as gone:
        open_teacher(config_of(teacher, tmp_path / "gone", digest), CLASSES)
    assert "restore it where it was" in str(gone.value)
    with pytest.raises(RunError, match="the directory that 'resight train'"):
        open_teacher(config_of(teacher, tmp_path / "gone"), CLASSES)
    with pytest.raises(RunError, match=r"is another one: the sha256 .* expected 000000000000…"):
        open_teacher(config_of(teacher, teacher.path, "0" * 64), CLASSES)
    changed = shutil.copytree(teacher.path, tmp_path / "changed")
    (changed / WEIGHTS).write_bytes((changed / WEIGHTS).read_bytes()[:-1] + b"\0")
    with pytest.raises(RunError, match="was changed after the Run was sealed"):
        open_teacher(config_of(teacher, changed), CLASSES)
    (changed / ONNX).unlink()
    open_teacher(config_of(teacher, teacher.path), CLASSES)
    card = (changed / CARD).read_text().replace('"sealed"', '"training"')
    (changed / CARD).write_text(card)
    with pytest.raises(RunError, match="is not finished"):
        open_teacher(config_of(teacher, changed), CLASSES)


def test_other_classes_are_refused_with_the_difference(teacher: Run) -> None:
    with pytest.raises(UsageError) as refused:
        open_teacher(config_of(teacher, teacher.path), ("columns", "dots", "rows"))
    assert "it lacks dots" in str(refused.value)
    assert "it has checks, which the data have not" in str(refused.value)


@pytest.mark.parametrize(("theirs", "ours", "fits"), [(4, 4, True), (4, 0, True), (4, 3, False), (3, 1, True)])
def test_channels_are_equal_or_grey_and_colour(
    theirs: int, ours: int, fits: bool, teacher: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = replace(teacher.card, channels=theirs)
    monkeypatch.setattr(Run, "open", classmethod(lambda *_, **__: Run(teacher.path, card)))
    config = override(config_of(teacher, teacher.path), {"data.channels": ours})
    if fits:
        assert open_teacher(config, CLASSES).card.channels == theirs
    else:
        with pytest.raises(UsageError, match="only grey and RGB can stand for each other"):
            open_teacher(config, CLASSES)


@pytest.mark.parametrize("option", ["distill.weight=0.5", "distill.temperature=2", "distill.sha256=" + "0" * 64])
def test_without_a_teacher_its_options_are_refused(option: str) -> None:
    name, value = option.split("=")
    with pytest.raises(UsageError, match=r"has no effect while distill\.teacher is None"):
        check_effects(override(TrainConfig(), {name: value}), {name: value})


# ── what it changes ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_student_answers_more_like_its_teacher(patterns: Path, tmp_path: Path) -> None:
    grown = start(tmp_path / "grown", patterns, {"total_steps": 48, "label_smoothing": 0.3})
    grown.fit()
    net = grown.net
    assert grown.average is not None
    net.load_state_dict(grown.average.state)
    config = grown.config
    run = tiny_teacher(tmp_path / "run", CLASSES, net, mean=tuple(config.data.mean), std=tuple(config.data.std))
    apart = []
    for name, changes in (("alone", {}), ("taught", {"distill.teacher": str(run.path), "distill.weight": 0.9})):
        training = start(tmp_path / name, patterns, {"total_steps": 24, "seed": 5, **changes})
        training.fit()
        answers = log_softmax(training.evaluate(StopRequest(print)).logits)
        pixels = torch.stack([torch.tensor(training.val[i]).permute(2, 0, 1) for i in range(len(training.val))])
        theirs = log_softmax(asked(run, pixels).numpy())
        apart.append(float((np.exp(theirs) * (theirs - answers)).sum(1).mean()))
    assert apart[1] < 0.7 * apart[0]
