"""Knowledge distillation: a sealed Run teaches, picture by picture, what it would answer (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resight.errors import RunError, UsageError
from resight.inference.tasks import only_answering
from resight.inference.tiled import only_whole
from resight.models import network_of
from resight.recipes.config import TrainConfig
from resight.runs import WEIGHTS, Run
from resight.samples.model import show_names
from resight.training.loader import Batch
from resight.training.losses import distillation
from resight.training.objective import Inputs, Logs, Normalize, Objective, Supervised

LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)
"""Of R, G and B in grey: ITU-R 601, as pictures are decoded to grey."""


class Teacher(nn.Module):
    """A frozen network that answers the pictures that a student is trained on, in evaluation mode always.

    forward: float32 (B, C, S, S), normalised as the student's → logits float32 (B, K), in the student's order of
    classes. The pictures get the teacher's channels, side and normalisation, in this order. No gradient flows back.
    """

    order: Tensor

    def __init__(self, run: Run, config: TrainConfig, classes: Sequence[str]) -> None:
        super().__init__()
        card = run.card
        self.net = network_of(run).requires_grad_(False).to(memory_format=torch.channels_last)
        self.student = Normalize(config.data.mean, config.data.std)
        self.normalize = Normalize(card.mean, card.std)
        self.channels, self.size = card.channels, card.geometry.size
        where = {name: number for number, name in enumerate(card.classes)}
        self.register_buffer("order", torch.tensor([where[name] for name in classes]), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Has no effect: the norms' statistics are the teacher's own, whatever the student does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        pixels = images.float() * self.student.std + self.student.mean  # 0 … 255, mixed as they are
        pixels = with_channels(pixels, self.channels)
        if pixels.shape[-1] != self.size:
            pixels = F.interpolate(pixels, (self.size,) * 2, mode="bilinear", antialias=True, align_corners=False)
        images = self.normalize(pixels).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.net(images).float()
        return logits[:, self.order]


class Distilled(Objective):
    """The labels' loss and the teacher's together: (1 − w) · labels + w · T² · KL(teacher ‖ student at T).

    ``labels`` holds the student, and says how its pictures are made. Its adjustment of logits and weights of classes
    belong to the labels: the student is compared with the teacher by its plain logits, each picture alike.
    """

    def __init__(self, labels: Supervised, teacher: Teacher, config: TrainConfig) -> None:
        super().__init__()
        self.labels, self.teacher = labels, teacher
        self.net, self.normalize = labels.net, labels.normalize
        self.weight, self.temperature = config.distill.weight, config.distill.temperature

    def forward(self, batch: Batch) -> tuple[Tensor, Logs]:
        inputs = self.labels.inputs(batch)
        return self.outcome(self.net(inputs.images).float(), inputs, batch)

    def outcome(self, logits: Tensor, inputs: Inputs, batch: Batch) -> tuple[Tensor, Logs]:
        """Loss and logs of these logits, float32 (B, K)."""
        by_label, logs = self.labels.outcome(logits, inputs, batch)
        by_teacher = distillation(logits, self.teacher(inputs.images), self.temperature)
        loss = (1 - self.weight) * by_label + self.weight * by_teacher
        return loss, {**logs, "loss": loss.detach() * logs["seen"]}


def with_channels(pixels: Tensor, channels: int) -> Tensor:
    """(B, C, S, S) float → (B, channels, S, S): grey repeated for RGB, RGB to grey by its luma."""
    found = pixels.shape[1]
    if found == channels:
        return pixels
    if found == 1:
        return pixels.expand(-1, channels, -1, -1)
    weights = torch.tensor(LUMA, dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True)


# ── which Run teaches ──────────────────────────────────────────────────────────────────────────────────────────


def adopted(config: TrainConfig, classes: Sequence[str], say: Callable[[str], None]) -> dict[str, str]:
    """Who teaches, once and for all: ``distill.teacher`` as an absolute path, ``distill.sha256`` of its weights.

    Empty without a teacher. Raises UsageError, RunError as ``open_teacher`` does.
    """
    if not config.distill.teacher:
        return {}
    run = open_teacher(config, classes)
    digest = run.card.files[WEIGHTS]
    say(f"teacher: {run.path}, {run.card.architecture.name} at {run.card.geometry.size} px, sha256 {digest[:12]}…")
    return {"distill.teacher": str(run.path.resolve()), "distill.sha256": digest}


def open_teacher(config: TrainConfig, classes: Sequence[str]) -> Run:
    """The Run that teaches, its weights unchanged.

    Raises RunError where it is gone, not sealed, or other weights than ``distill.sha256`` says; UsageError where its
    classes, channels or task are not the student's.
    """
    path = Path(config.distill.teacher or "")
    try:
        run = Run.open(path, verify=False)
        run.verify(WEIGHTS)
    except RunError as error:
        raise RunError(f"the teacher cannot be used: {error.message}", hint=_remedy(config, error)) from error
    expected, found = config.distill.sha256, run.card.files[WEIGHTS]
    if expected and found != expected:
        raise RunError(
            f"the teacher {path} is another one: the sha256 of its weights is {found[:12]}…, expected {expected[:12]}…",
            hint="restore the Run that training was started with, or start a new training",
        )
    only_answering(run, "teaching")
    only_whole(run, "distill.teacher")
    if run.card.task != "single":
        raise UsageError(f"the teacher {path} answers with several labels a picture, and the student with one")
    _check_classes(path, run.classes, classes)
    theirs, ours = run.card.channels, config.data.channels
    if ours not in (0, theirs) and {theirs, ours} - {1, 3}:  # 0: not decided yet
        raise UsageError(
            f"the teacher {path} sees {theirs} channels, and the student {ours}: only grey and RGB can stand for each "
            "other"
        )
    return run


def _remedy(config: TrainConfig, error: RunError) -> str | None:
    started = "restore it where it was, or start a new training"
    return started if config.distill.sha256 else error.hint or "give a Run that 'resight train' or 'import' made"


def _check_classes(path: Path, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """By name: their order does not matter. Raises UsageError with the difference."""
    missing, other = [n for n in ours if n not in theirs], [n for n in theirs if n not in ours]
    lines = [f"it lacks {show_names(missing)}"] if missing else []
    lines += [f"it has {show_names(other)}, which the data have not"] if other else []
    if lines:
        raise UsageError(
            f"the teacher {path} has other classes than the data: {'; '.join(lines)}",
            hint="train the teacher on the same classes, or rename the folders",
        )
