"""Which objective a configuration asks for."""

from __future__ import annotations

from resight.models import ResNet
from resight.recipes.config import TrainConfig
from resight.samples import SampleSet
from resight.training.distill import Distilled, Teacher, open_teacher
from resight.training.objective import Objective, Supervised


def supervised(net: ResNet, config: TrainConfig, samples: SampleSet) -> Supervised:
    """The labels' part: also what a finished network is asked through."""
    return Supervised(net, config, samples.counts()["train"])


def objective_for(net: ResNet, config: TrainConfig, samples: SampleSet) -> Objective:
    """The labels' loss, with the teacher's where there is one. Raises RunError, UsageError as ``open_teacher`` does."""
    labels = supervised(net, config, samples)
    if not config.distill.teacher:
        return labels
    teacher = Teacher(open_teacher(config, samples.classes), config, samples.classes)
    return Distilled(labels, teacher, config)
