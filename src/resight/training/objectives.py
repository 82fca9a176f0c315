"""Which objective a configuration asks for."""

from __future__ import annotations

from resight.errors import UsageError
from resight.models import ResNet
from resight.recipes.config import TrainConfig
from resight.samples import SampleSet
from resight.training.bags import Bags
from resight.training.distill import Distilled, Teacher, open_teacher
from resight.training.distributed import world_size
from resight.training.objective import Objective, Supervised
from resight.training.reading import geometry_of


def supervised(net: ResNet, config: TrainConfig, samples: SampleSet) -> Supervised:
    """The labels' part: also what a finished network is asked through."""
    if config.data.geometry == "tiles":
        return Bags(net, config, geometry_of(config), samples.counts()["train"])
    return Supervised(net, config, samples.counts()["train"])


def check_processes(config: TrainConfig) -> None:
    """Raises UsageError where several processes are to do what only one can."""
    if world_size() == 1:
        return
    if config.data.geometry == "tiles":
        raise UsageError("data.geometry=tiles trains in one process", hint="start it without torchrun")
    if config.data.fix_share:  # which parameters have gradients changes on the way
        raise UsageError("data.fix_share trains in one process", hint="leave it out, or start without torchrun")


def objective_for(net: ResNet, config: TrainConfig, samples: SampleSet) -> Objective:
    """The labels' loss, with the teacher's where there is one. Raises RunError, UsageError as ``open_teacher`` does,
    and UsageError as ``check_processes`` does."""
    check_processes(config)
    labels = supervised(net, config, samples)
    if not config.distill.teacher:
        return labels
    teacher = Teacher(open_teacher(config, samples.classes), config, samples.classes)
    return Distilled(labels, teacher, config)
