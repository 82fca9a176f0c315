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
from resight.training.prepare import geometry_of


def supervised(net: ResNet, config: TrainConfig, samples: SampleSet) -> Supervised:
    """The labels' part: also what a finished network is asked through."""
    if config.data.geometry == "tiles":
        return Bags(net, config, geometry_of(config), samples.counts()["train"])
    return Supervised(net, config, samples.counts()["train"])


def objective_for(net: ResNet, config: TrainConfig, samples: SampleSet) -> Objective:
    """The labels' loss, with the teacher's where there is one. Raises RunError, UsageError as ``open_teacher`` does,
    and UsageError for bags of tiles in several processes."""
    if config.data.geometry == "tiles" and world_size() > 1:
        raise UsageError("data.geometry=tiles trains in one process", hint="start it without torchrun")
    labels = supervised(net, config, samples)
    if not config.distill.teacher:
        return labels
    teacher = Teacher(open_teacher(config, samples.classes), config, samples.classes)
    return Distilled(labels, teacher, config)
